"""The class that a host is given, imported only where it is used."""

from __future__ import annotations


def redis_storage() -> type:
    """Returns ``RedisKVStorage``, a subclass of the host's own base class."""
    from nano_graphrag_redis.storage import RedisKVStorage

    return RedisKVStorage
