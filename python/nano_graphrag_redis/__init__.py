"""The Redis key-value backend of nano-graphrag.

Importing this package opens no connection and imports neither the host nor pydantic. Each name is
loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nano_graphrag_redis.integrations.hosts.registration import register, unregister

    from ._core import __version__ as __version__
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
        StorageMemoryError,
        StorageOperationError,
        StorageSerializationError,
        StorageTimeoutError,
        StorageUnavailableError,
    )
    from .llm.cache_embeddings import cache_embeddings
    from .llm.limit_llm import limit_llm
    from .storage import RedisKVStorage
    from .sync import SyncRedisKVStorage
    from .typed_dicts import RedisSettings, StorageStats


def _refuse_subinterpreters() -> None:
    """The core has one set of types and threads a process: those of the main interpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = import_module(name)
        except ImportError:
            continue
        if interpreters.get_current() != interpreters.get_main():
            raise ImportError(
                "nano_graphrag_redis works in the main interpreter only, and this is a "
                "subinterpreter: import it there, or in another process (under mod_wsgi, set "
                "WSGIApplicationGroup %{GLOBAL})"
            )
        return


_refuse_subinterpreters()

_HOMES = {
    "RedisKVStorage": "storage",
    "SyncRedisKVStorage": "sync",
    "StorageStats": "typed_dicts",
    "RedisConfig": "config",
    "RedisSettings": "typed_dicts",
    "cache_embeddings": "llm.cache_embeddings",
    "limit_llm": "llm.limit_llm",
    "register": "hosts",
    "unregister": "hosts",
    "StorageError": "exceptions",
    "StorageUnavailableError": "exceptions",
    "CircuitOpenError": "exceptions",
    "StorageTimeoutError": "exceptions",
    "StorageMemoryError": "exceptions",
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
    "RedisSettings",
    "StorageAuthError",
    "StorageClosedError",
    "StorageConfigError",
    "StorageError",
    "StorageMemoryError",
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


if not TYPE_CHECKING:  # a checker would take every name for one of ours

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
