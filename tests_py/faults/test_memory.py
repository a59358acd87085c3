"""A server that is full refuses, and keeps what it has acknowledged."""

from __future__ import annotations

import threading

import pytest

from nano_graphrag_redis import StorageOperationError, SyncRedisKVStorage
from support.servers import RedisServer

from .rows import Row

TEXT = "Marley was dead: to begin with. " * 64
"""2 kB."""


@pytest.mark.row(15)
@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_a_full_server_refuses_and_loses_nothing_that_it_has_acknowledged(
    row: Row, own_server: RedisServer, policy: str
) -> None:
    client = own_server.client()
    client.config_set("maxmemory-policy", policy)
    room = row.pick(quick=4, full=64) << 20
    client.config_set("maxmemory", client.info("memory")["used_memory"] + room)
    config = {"redis_url": own_server.url}
    acknowledged: set[str] = set()
    refused: list[str] = []

    def fill(writer: int) -> None:
        with SyncRedisKVStorage("full_docs", config) as documents:
            for number in range(1_000_000):
                id = f"{writer}-{number}"
                try:
                    documents.upsert({id: {"content": TEXT}})
                except StorageOperationError as error:
                    refused.append(str(error))
                    return
                acknowledged.add(id)

    # Cached answers have a TTL: under volatile-lru they make room.
    with SyncRedisKVStorage("llm_response_cache", config) as cache:
        cache.upsert({f"hash-{n}": {"return": TEXT, "model": "m"} for n in range(500)})
    threads = [threading.Thread(target=fill, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == len(threads)
    assert all("OOM" in error and "maxmemory" in error for error in refused)
    assert len(acknowledged) > 500
    with SyncRedisKVStorage("full_docs", config) as documents:
        lost = documents.filter_keys(acknowledged)
    row.none(f"acknowledged documents lost, {policy}", len(lost), of=len(acknowledged))
    left = sum(1 for _ in client.scan_iter("nano_graphrag:llm_response_cache:*", count=1000))
    row.saw(f"cached answers left of 500, {policy}", left)


@pytest.mark.row(15)
def test_a_policy_that_evicts_documents_is_warned_of(
    row: Row, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_server.client().config_set("maxmemory-policy", "allkeys-lfu")
    with SyncRedisKVStorage("full_docs", {"redis_url": own_server.url}) as documents:
        documents.upsert({"doc-1": {}})
        documents.get_by_id("doc-1")
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "allkeys-lfu" in line]
    row.saw("warned of allkeys-lfu", "yes")
