"""The configuration: the storage's part of it, and what of that a storage is told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

_TOLD_TO_REDIS = (
    "redis_url",
    "redis_password",
    "redis_max_connections",
    "redis_connection_timeout",
    "redis_socket_timeout",
    "redis_health_check_interval",
)


@dataclass(frozen=True)
class StorageConfig:
    kv_backend: str = "json"
    working_dir: str = "./nano_graphrag_cache"
    redis_url: str = "redis://localhost:6379"
    redis_password: str | None = None
    redis_max_connections: int = 50
    redis_connection_timeout: float = 5.0
    redis_socket_timeout: float = 5.0
    redis_health_check_interval: int = 30

    @classmethod
    def from_env(cls) -> StorageConfig:
        return cls(
            kv_backend=os.getenv("STORAGE_KV_BACKEND", "json"),
            working_dir=os.getenv("STORAGE_WORKING_DIR", "./nano_graphrag_cache"),
            redis_url=os.getenv("REDIS_URL", "redis://localhost:6379"),
            redis_password=os.getenv("REDIS_PASSWORD"),
            redis_max_connections=int(os.getenv("REDIS_MAX_CONNECTIONS", "50")),
            redis_connection_timeout=float(os.getenv("REDIS_CONNECTION_TIMEOUT", "5.0")),
            redis_socket_timeout=float(os.getenv("REDIS_SOCKET_TIMEOUT", "5.0")),
            redis_health_check_interval=int(os.getenv("REDIS_HEALTH_CHECK_INTERVAL", "30")),
        )

    def __post_init__(self) -> None:
        if self.kv_backend not in ("json", "redis"):
            raise ValueError(f"Unknown KV backend: {self.kv_backend}")


@dataclass(frozen=True)
class GraphRAGConfig:
    storage: StorageConfig = field(default_factory=StorageConfig)

    @classmethod
    def from_env(cls) -> GraphRAGConfig:
        return cls(storage=StorageConfig.from_env())

    def to_dict(self) -> dict[str, Any]:
        """What a storage gets as its ``global_config``."""
        told: dict[str, Any] = {"working_dir": self.storage.working_dir}
        if self.storage.kv_backend == "redis":
            told |= {name: getattr(self.storage, name) for name in _TOLD_TO_REDIS}
        return told
