"""The factory: a loader for each backend, filled in when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

Loader = Callable[[], type]


class StorageFactory:
    _kv_backends: ClassVar[dict[str, Loader]] = {}
    _vector_backends: ClassVar[dict[str, Loader]] = {}
    _graph_backends: ClassVar[dict[str, Loader]] = {}

    ALLOWED_KV: ClassVar[set[str]] = {"json", "redis"}

    @classmethod
    def register_kv(cls, name: str, backend_loader: Loader) -> None:
        if name not in cls.ALLOWED_KV:
            raise ValueError(f"Backend {name} not in allowed KV backends: {cls.ALLOWED_KV}")
        cls._kv_backends[name] = backend_loader

    @classmethod
    def create_kv_storage(
        cls, backend: str, namespace: str, global_config: dict[str, Any], **kwargs: Any
    ) -> Any:
        if backend not in cls._kv_backends:
            _register_backends()
        if backend not in cls._kv_backends:
            raise ValueError(f"Unknown KV backend: {backend}. Available: {list(cls._kv_backends)}")
        storage = cls._kv_backends[backend]()
        return storage(namespace=namespace, global_config=global_config, **kwargs)


def _json_storage() -> type:
    from .kv_json import JsonKVStorage

    return JsonKVStorage


def _redis_storage() -> type:
    from .kv_redis import RedisKVStorage

    return RedisKVStorage


def _register_backends() -> None:
    """Fills the registry, unless something is in it."""
    if not StorageFactory._kv_backends:
        StorageFactory.register_kv("json", _json_storage)
        StorageFactory.register_kv("redis", _redis_storage)
