"""The Redis key-value backend of nano-graphrag.

Importing this package opens no connection and imports neither the host nor pydantic. Each name is
loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nano_graphrag_redis.integrations.hosts import register, unregister

    from .config import RedisConfig
    from .exceptions import (
        CircuitOpenError,
        CorruptValueError,
        DurabilityError,
        JsonFileError,
        StorageAuthError,
        StorageClosedError,
        StorageConfigError,
        StorageError,
        StorageOperationError,
        StorageSerializationError,
        StorageTimeoutError,
        StorageUnavailableError,
    )
    from .llm.embeddings import cache_embeddings
    from .llm.limiting import limit_llm
    from .shapes import StorageStats
    from .storage import RedisKVStorage
    from .sync import SyncRedisKVStorage

_HOMES = {
    "RedisKVStorage": "storage",
    "SyncRedisKVStorage": "sync",
    "StorageStats": "shapes",
    "RedisConfig": "config",
    "cache_embeddings": "llm.embeddings",
    "limit_llm": "llm.limiting",
    "register": "hosts",
    "unregister": "hosts",
    "StorageError": "exceptions",
    "StorageUnavailableError": "exceptions",
    "CircuitOpenError": "exceptions",
    "StorageTimeoutError": "exceptions",
    "StorageOperationError": "exceptions",
    "StorageAuthError": "exceptions",
    "StorageSerializationError": "exceptions",
    "CorruptValueError": "exceptions",
    "JsonFileError": "exceptions",
    "StorageConfigError": "exceptions",
    "DurabilityError": "exceptions",
    "StorageClosedError": "exceptions",
    "__version__": "_core",
}

__all__ = [
    "CircuitOpenError",
    "CorruptValueError",
    "DurabilityError",
    "JsonFileError",
    "RedisConfig",
    "RedisKVStorage",
    "StorageAuthError",
    "StorageClosedError",
    "StorageConfigError",
    "StorageError",
    "StorageOperationError",
    "StorageSerializationError",
    "StorageStats",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "SyncRedisKVStorage",
    "cache_embeddings",
    "limit_llm",
    "register",
    "unregister",
]


def __getattr__(name: str) -> object:
    """Loads a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, including those not loaded yet."""
    return sorted({*globals(), *_HOMES})
