"""The class that a host is given, imported only where it is used."""

from __future__ import annotations

import sys
from typing import Any

from nano_graphrag_redis.workers.backend_and_hash_seed import warn_of_random_hashes


def redis_storage() -> type:
    """Returns ``RedisKVStorage``, a subclass of the host's own base class."""
    from nano_graphrag_redis.storage import RedisKVStorage

    # Again here: an application may read its .env file after register().
    warn_of_random_hashes()
    return RedisKVStorage


def is_redis_storage(cls: Any) -> bool:
    """Whether ``cls`` is ``RedisKVStorage`` or a subclass; imports nothing to say so."""
    ours = sys.modules.get("nano_graphrag_redis.storage")
    return ours is not None and isinstance(cls, type) and issubclass(cls, ours.RedisKVStorage)
