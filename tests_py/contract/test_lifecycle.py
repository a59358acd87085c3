"""From the constructor, which connects to nothing, to what comes after close."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageClosedError
from support.servers import RedisServer
from support.stores import (
    OpenRedisStore,
    RedisKind,
    RedisStore,
    Settings,
    Store,
    redis_store,
)

NO_RETRIES = {"redis_max_retries": 0, "redis_operation_timeout": 2.0}

CALLS: dict[str, Callable[[RedisStore], object]] = {
    "get_by_id": lambda store: store.get_by_id("a"),
    "get_by_ids": lambda store: store.get_by_ids(["a"]),
    "filter_keys": lambda store: store.filter_keys(["a"]),
    "all_keys": lambda store: store.all_keys(),
    "upsert": lambda store: store.upsert({"a": 1}),
    "delete_by_id": lambda store: store.delete_by_id("a"),
    "delete_by_ids": lambda store: store.delete_by_ids(["a"]),
    "drop": lambda store: store.drop(),
    "get_stats": lambda store: store.get_stats(),
}


def test_the_callbacks_return_nothing(store: Store) -> None:
    callbacks = (store.index_start_callback, store.index_done_callback, store.query_done_callback)
    assert [callback() for callback in callbacks] == [None] * 3
    store.upsert({"a": 1})
    assert [callback() for callback in callbacks] == [None] * 3
    assert store.get_by_id("a") == 1


def test_close_may_be_called_again(redis_kv: RedisStore) -> None:
    redis_kv.upsert({"a": 1})
    redis_kv.close()
    redis_kv.close()


def test_an_unused_storage_may_be_closed(redis_kv: RedisStore) -> None:
    redis_kv.close()


@pytest.mark.any_server
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("namespace", ["full_docs", "llm_response_cache"])
def test_a_closed_storage_refuses_every_call(
    open_redis: OpenRedisStore, namespace: str, call: str
) -> None:
    store = open_redis(namespace)
    store.upsert({"a": 1})
    store.close()
    with pytest.raises(StorageClosedError, match=namespace):
        CALLS[call](store)


def test_closing_one_storage_leaves_its_neighbours_open(open_redis: OpenRedisStore) -> None:
    one, same, other = open_redis("full_docs"), open_redis("full_docs"), open_redis("text_chunks")
    one.upsert({"a": 1})
    one.close()
    assert same.get_by_id("a") == 1
    assert other.get_by_id("a") is None


def test_a_with_statement_closes(settings: Settings) -> None:
    with SyncRedisKVStorage("full_docs", settings) as store:
        store.upsert({"a": 1})
    with pytest.raises(StorageClosedError):
        store.get_by_id("a")


def test_an_async_with_statement_closes(settings: Settings) -> None:
    async def use() -> RedisKVStorage:
        async with RedisKVStorage("full_docs", settings) as store:
            await store.upsert({"a": 1})
        with pytest.raises(StorageClosedError):
            await store.get_by_id("a")
        return store

    asyncio.run(use())


def test_an_error_leaves_a_with_statement_as_it_is(settings: Settings) -> None:
    with pytest.raises(LookupError, match="mine"), SyncRedisKVStorage("full_docs", settings):
        raise LookupError("mine")


def test_the_sync_twin_shares_the_storage(settings: Settings, redis_client: Redis) -> None:
    async def use() -> None:
        async with RedisKVStorage("full_docs", settings) as store:
            await store.upsert({"a": 1})
            assert isinstance(store.sync, SyncRedisKVStorage)
            assert store.sync.get_by_id("a") == 1
            store.sync.upsert({"b": 2})
            assert await store.get_by_ids(["a", "b"]) == [1, 2]
            twin = store.sync
        with pytest.raises(StorageClosedError):
            twin.get_by_id("a")

    asyncio.run(use())
    assert redis_client.dbsize() == 2


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_constructor_opens_nothing(kind: RedisKind) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.setblocking(False)
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with redis_store(kind, "full_docs", {"redis_url": url}), pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("light", [False, True])
def test_stats_name_the_namespace_its_size_and_its_memory(
    open_redis: OpenRedisStore, light: bool
) -> None:
    store = open_redis("llm_response_cache")
    store.upsert({f"hash-{i}": {"return": "Bah!" * 100} for i in range(25)})
    open_redis("full_docs").upsert({"doc": 1})
    stats = store.get_stats(light)
    assert stats["namespace"] == "llm_response_cache"
    assert stats["ttl_seconds"] == 43_200
    if not light:
        assert stats["key_count"] == 25
        assert (stats["sample_memory_usage"] or 0) > 400
        assert (stats["total_redis_memory"] or 0) > 0


def test_stats_of_an_empty_namespace(redis_kv: RedisStore) -> None:
    stats = redis_kv.get_stats()
    assert stats["key_count"] == 0
    assert stats["ttl_seconds"] == 0


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_health_follows_the_server(kind: RedisKind, server_binary: Path) -> None:
    with (
        RedisServer(server_binary) as server,
        redis_store(kind, "full_docs", {"redis_url": server.url} | NO_RETRIES) as store,
    ):
        assert store.check_health() is True
        server.kill()
        assert store.check_health() is False
        server.start()
        assert store.check_health() is True


def test_a_closed_storage_is_not_healthy(redis_kv: RedisStore) -> None:
    redis_kv.close()
    assert redis_kv.check_health() is False
