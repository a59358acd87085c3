"""The backup exporter, which reads a Redis storage by its inner names."""

from __future__ import annotations

import json
from typing import Any


async def exported(storage: Any) -> dict[str, Any]:
    """The entries of a storage, by id."""
    if type(storage).__name__ != "RedisKVStorage":
        return dict(storage._data)
    await storage._ensure_initialized()
    prefix = storage._prefix
    keys: list[bytes] = []
    cursor = 0
    while True:
        cursor, page = await storage._redis_client.scan(cursor, match=f"{prefix}*", count=1000)
        keys.extend(page)
        if cursor == 0:
            break
    entries = {}
    for key in keys:
        value = await storage._redis_client.get(key)
        if value is not None:
            entries[key.decode().replace(prefix, "", 1)] = json.loads(value.decode())
    return entries
