"""One set of connections for all storages of equal settings, from the first call to the last."""

import asyncio

import pytest

from connections.conftest import Connections, OpenStorage
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage, _core
from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.conditions import eventually
from support.servers import RedisServer

NAMESPACES = ("full_docs", "text_chunks", "community_reports", "llm_response_cache")


def test_no_connection_is_made_before_the_first_call(
    open_storage: OpenStorage, connections: Connections
) -> None:
    storage = open_storage(redis_min_connections=2, redis_prewarm_connections=True)
    repr(storage)
    storage.index_start_callback()
    assert connections.opened() == 0
    storage.get_by_id("a")
    assert connections.opened() > 0


def test_storages_of_equal_settings_share_the_connection_of_their_thread_and_that_of_their_loop(
    server: RedisServer, open_storage: OpenStorage, connections: Connections
) -> None:
    async def use() -> None:
        for namespace in NAMESPACES:
            async with RedisKVStorage(namespace, {"redis_url": server.url}) as awaited:
                await awaited.get_by_id("a")

    storages = [open_storage(namespace) for namespace in NAMESPACES * 5]
    for storage in storages:
        storage.upsert({"a": 1})
    asyncio.run(use())
    assert connections.opened() == 2


# What a call may expect is set for its connection.
def test_storages_of_other_settings_have_connections_of_their_own(
    open_storage: OpenStorage, connections: Connections
) -> None:
    open_storage().get_by_id("a")
    open_storage(redis_socket_timeout=3.0).get_by_id("a")
    assert connections.opened() == 2


def test_the_last_storage_to_close_closes_the_connections(
    open_storage: OpenStorage, connections: Connections
) -> None:
    one, other = open_storage("full_docs"), open_storage("text_chunks")
    for storage in (one, other):
        storage.get_by_id("a")
    one.close()
    other.get_by_id("a")
    assert connections.opened() == 1
    assert len(connections.open()) == 1
    other.close()
    eventually(lambda: not connections.open())


# A server that stays away is probed for as long as somebody may ask for it.
def test_the_probes_of_a_server_that_is_away_end_with_the_last_storage() -> None:
    nowhere = "redis://127.0.0.1:1/0"
    with SyncRedisKVStorage(
        "full_docs", {"redis_url": nowhere, "redis_breaker_failures": 1}
    ) as storage:
        with pytest.raises(StorageUnavailableError):
            storage.get_by_id("a")
        assert [each["breaker_open"] for each in _core.metrics()["servers"][nowhere]["sets"]]
    eventually(lambda: not _core.metrics()["servers"][nowhere]["sets"])
