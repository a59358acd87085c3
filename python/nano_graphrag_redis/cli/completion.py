"""The shell's completion of a namespace's name."""

from __future__ import annotations

import contextlib
import logging
import time

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import KNOWN_NAMESPACES
from nano_graphrag_redis.migration.namespaces_and_foreign_keys import entries_of

_PATIENCE = 0.5
"""Seconds that a person waits at the Tab key: for the server, and for the walk over its keys."""


def namespaces_for_completion(incomplete: str) -> list[str]:
    """The namespaces that begin so: the host's, and those met on the server in a short time."""
    logging.disable()  # whatever is said would be written over the command line
    names = {*KNOWN_NAMESPACES}
    with contextlib.suppress(Exception):
        hurried = {
            "redis_operation_timeout": _PATIENCE,
            "redis_connection_timeout": _PATIENCE,
            "redis_socket_timeout": _PATIENCE,
            "redis_max_retries": 0,
            "redis_metrics_dir": None,
        }
        end = time.monotonic() + _PATIENCE
        for name, _ in entries_of(RedisConfig.from_env().model_copy(update=hurried)):
            names.add(name)
            if time.monotonic() > end:
                break
    return sorted(name for name in names if name.startswith(incomplete) and name.isprintable())
