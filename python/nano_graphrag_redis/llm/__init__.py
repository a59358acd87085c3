"""Wrappers for the functions with which the host calls providers, so that nothing is paid twice.

- ``embeddings``: ``cache_embeddings``, vectors by model and text
- ``embedding_cache``: the cache behind it, imported on first use because it needs numpy
"""

from __future__ import annotations

from .embeddings import cache_embeddings

__all__ = ["cache_embeddings"]
