"""The store of a namespace, as work on files and the commands use it, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.storage_lifetime import Backend

Settings = RedisConfig | Mapping[str, Any] | None
"""A ``RedisConfig``, a host's ``global_config``, or None for the environment."""


def configuration(settings: Settings, directory: Path | None = None) -> RedisConfig:
    """The settings to work with: the server's word alone counts, and nothing follows the work.

    Args:
        settings: As the caller gave them.
        directory: The working directory that the keyspace is being filled from.
    """
    if not isinstance(settings, RedisConfig):
        settings = RedisConfig.from_global_config(settings or {})
    origin = str(directory) if directory else None
    alone = {"redis_dual_write": False, "redis_outage_policy": {}, "working_dir": origin}
    alone["redis_ttl_sliding"] = False  # a copy prolongs nothing
    return settings.model_copy(update=alone)


@contextmanager
def opened(
    namespace: str, config: RedisConfig, *, ttl: int | None = None
) -> Iterator[BlockingKvStore]:
    """Opens the store of a namespace and closes it at the end; ``ttl`` overrides its setting."""
    backend = Backend(namespace, config, ttl=ttl)
    try:
        backend.join_server()
        yield backend.store.blocking
    finally:
        backend.close()
