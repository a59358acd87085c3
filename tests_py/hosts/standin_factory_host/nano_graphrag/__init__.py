"""A small stand-in for the host that makes its storages in a factory, which is not on PyPI.

It has what a storage meets there: the base class, the factory, the configuration, the three callers
that reach into a storage (the backup exporter, the health route, the API adapter), and providers.
"""

from .config import GraphRAGConfig, StorageConfig
from .graphrag import GraphRAG

__all__ = ["GraphRAG", "GraphRAGConfig", "StorageConfig"]
__version__ = "0.standin"
