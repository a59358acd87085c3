"""What the host relies on never expires by default, whatever way it was written."""

from __future__ import annotations

from typing import Any

import pytest

from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, MUST_NOT_EXPIRE
from nano_graphrag_redis.doctor import examine
from support.servers import RedisServer

from .rows import Row

WAYS: list[dict[str, Any]] = [
    {},
    {"redis_registry": True},
    {"redis_compression": "zstd", "redis_compression_min_bytes": 0},
    {"redis_near_cache_mb": 1},
    {"redis_durability": "fsync", "redis_durability_timeout": 10},
    {"redis_workspace": "acme", "redis_shared_namespaces": "llm_response_cache"},
]


@pytest.mark.row(35)
def test_no_key_of_documents_chunks_and_reports_has_a_ttl(
    row: Row, own_server: RedisServer
) -> None:
    client = own_server.client()
    client.config_set("appendfsync", "always")
    count = row.pick(quick=100, full=10_000)
    for number, settings in enumerate(WAYS):
        config = {"redis_url": own_server.url, **settings}
        for namespace in (*HOST_NAMESPACES, "of_the_application"):
            with SyncRedisKVStorage(namespace, config) as storage:
                storage.upsert({f"{number}-{n}": {"content": "x" * 50} for n in range(count)})
                storage.upsert({f"{number}-0": {"content": "again"}})
                storage.delete_by_id(f"{number}-1")
                storage.index_done_callback()
    looked, expiring, cached = 0, [], 0
    for key in client.scan_iter("nano_graphrag*", count=1000):
        namespace = key.split(b":")[1].decode()
        if namespace == "llm_response_cache":
            cached += client.ttl(key) > 0
            continue
        looked += 1
        if client.ttl(key) != -1:
            expiring.append(key)
    row.none("keys with a TTL", len(expiring), of=looked)
    assert cached == len(WAYS) * (count - 1)
    assert looked >= len(WAYS) * (len(MUST_NOT_EXPIRE) + 1) * (count - 1)
    each: tuple[dict[str, Any], ...] = ({}, {"redis_workspace": "acme"})
    for settings in each:
        findings = examine(RedisConfig(redis_url=own_server.url, **settings))
        assert [f for f in findings if f.check == "ttl"] == []
