"""What is counted of a call, whichever way it is made and however it ends."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from nano_graphrag_redis import RedisKVStorage, StorageError, SyncRedisKVStorage, _core
from nano_graphrag_redis.typed_dicts import NamespaceMetrics
from support.scripts import run_script
from support.servers import RedisServer


@pytest.fixture
def namespace() -> str:
    """A namespace whose counts are this test's."""
    return f"n{uuid.uuid4().hex}"


Counted = Callable[[], NamespaceMetrics]


@pytest.fixture
def counted(namespace: str) -> Counted:
    return lambda: _core.metrics()["namespaces"][namespace]


def statuses(counted: NamespaceMetrics) -> dict[str, dict[str, int]]:
    return {name: calls["statuses"] for name, calls in counted["operations"].items()}


EVERY_CALL: dict[str, Callable[[Any], Any]] = {
    "upsert": lambda s: s.upsert({"a": 1, "b": "two"}),
    "get_by_id": lambda s: s.get_by_id("a"),
    "get_by_ids": lambda s: s.get_by_ids(["a", "b", "c"]),
    "filter_keys": lambda s: s.filter_keys(["a", "c"]),
    "all_keys": lambda s: s.all_keys(),
    "index_done_callback": lambda s: s.index_done_callback(),
    "check_health": lambda s: s.check_health(),
    "get_stats": lambda s: s.get_stats(),
    "delete_by_id": lambda s: s.delete_by_id("a"),
    "delete_by_ids": lambda s: s.delete_by_ids(["a", "b"]),
    "drop": lambda s: s.drop(),
}


def test_each_call_is_counted_once_awaited_and_blocking(
    server: RedisServer, namespace: str, counted: Counted
) -> None:
    async def awaited() -> None:
        async with RedisKVStorage(namespace, {"redis_url": server.url}) as storage:
            for call in EVERY_CALL.values():
                await call(storage)

    with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
        for call in EVERY_CALL.values():
            call(storage)
        assert statuses(counted()) == {name: {"ok": 1} for name in EVERY_CALL}
        asyncio.run(awaited())
    told = counted()
    assert statuses(told) == {name: {"ok": 2} for name in EVERY_CALL}
    assert all(sum(calls["histogram"]) == 2 for calls in told["operations"].values())
    assert all(calls["seconds"] > 0 for calls in told["operations"].values())
    assert (told["counts"]["hits"], told["counts"]["misses"]) == (6, 2)
    assert told["counts"]["json_bytes_written"] == 2 * len('1"two"')
    assert told["counts"]["json_bytes_read"] == 2 * len('11"two"')


def test_gathered_reads_are_counted_one_by_one(
    server: RedisServer, namespace: str, counted: Counted
) -> None:
    async def gathered() -> None:
        async with RedisKVStorage(namespace, {"redis_url": server.url}) as storage:
            await asyncio.gather(*(storage.upsert({str(i): i}) for i in range(100)))
            await asyncio.gather(*(storage.get_by_id(str(i)) for i in range(200)))

    asyncio.run(gathered())
    assert statuses(counted()) == {"upsert": {"ok": 100}, "get_by_id": {"ok": 200}}
    assert (counted()["counts"]["hits"], counted()["counts"]["misses"]) == (100, 100)


def test_bytes_are_counted_before_and_after_compression(
    server: RedisServer, namespace: str, counted: Counted, redis_client: redis.Redis
) -> None:
    settings = {"redis_url": server.url, "redis_compression": "zstd"}
    with SyncRedisKVStorage(namespace, settings) as storage:
        storage.upsert({"long": "ghost " * 10_000})
        storage.get_by_id("long")
    stored = redis_client.strlen(f"nano_graphrag:{namespace}:long")
    counts = counted()["counts"]
    assert counts["json_bytes_written"] == counts["json_bytes_read"] == 60_002
    assert counts["stored_bytes_written"] == counts["stored_bytes_read"] == stored


def test_failures_are_counted_by_their_class(
    server: RedisServer, namespace: str, counted: Counted, redis_client: redis.Redis
) -> None:
    key = f"nano_graphrag:{namespace}:"
    redis_client.lpush(f"{key}list", "x")
    redis_client.set(f"{key}damaged", "{")
    with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
        for failing in (
            lambda: storage.get_by_id("list"),
            lambda: storage.get_by_id("damaged"),
            lambda: storage.get_by_ids(["damaged", "none"]),
            lambda: storage.get_by_id("\ud800"),
            lambda: storage.upsert({"set": {1, 2}}),
            lambda: storage.delete_by_id("\ud800"),
        ):
            with pytest.raises(StorageError):
                failing()
    assert statuses(counted()) == {
        "get_by_id": {"operation": 1, "corrupt": 1, "serialization": 1},
        "get_by_ids": {"corrupt": 1},
        "upsert": {"serialization": 1},
        "delete_by_id": {"serialization": 1},
    }
    assert counted()["forgiven"] == {}


def test_what_the_outage_policy_forgives_is_counted_as_forgiven(
    namespace: str, counted: Counted
) -> None:
    nobody = RedisServer()  # never started: its port is its own, and nobody listens there
    settings = {
        "redis_url": nobody.url,
        "redis_outage_policy": "miss",
        "redis_max_retries": 0,
        "redis_breaker_failures": 2,
    }
    with SyncRedisKVStorage(namespace, settings) as storage:
        for _ in range(3):
            assert storage.get_by_id("a") is None
        storage.upsert({"a": 1})
        with pytest.raises(StorageError):
            storage.all_keys()
        server = _core.metrics()["servers"][f"{nobody.url}/0"]
        assert [told["breaker_open"] for told in server["sets"]] == [True]
    nobody.close()
    assert server["counts"]["breaker_opened"] == 1
    assert statuses(counted()) == {
        "get_by_id": {"forgiven": 3},
        "upsert": {"forgiven": 1},
        "all_keys": {"circuit_open": 1},
    }
    forgiven = counted()["forgiven"]
    assert (set(forgiven), sum(forgiven.values())) == ({"unavailable", "circuit_open"}, 4)
    assert counted()["counts"]["misses"] == 0, "nobody knows whether it is there"


def test_what_the_callers_own_code_raises_is_counted_apart(
    server: RedisServer, namespace: str, counted: Counted
) -> None:
    class Fields(set[str]):
        def __contains__(self, name: object) -> bool:
            raise ZeroDivisionError

    with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
        storage.upsert({"a": {"b": 1}})
        with pytest.raises(ZeroDivisionError):
            storage.get_by_ids(["a"], Fields())
    assert statuses(counted())["get_by_ids"] == {"raised": 1}


def test_a_call_whose_caller_leaves_is_counted_as_cancelled(
    namespace: str, counted: Counted
) -> None:
    async def left(call: Callable[[RedisKVStorage], Awaitable[Any]]) -> None:
        async with RedisKVStorage(namespace, {"redis_url": server.url}) as storage:
            await storage.check_health()
            server.pause()
            waiting = asyncio.ensure_future(call(storage))
            await asyncio.sleep(0)
            waiting.cancel()
            server.resume()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await storage.check_health()

    with RedisServer() as server:
        asyncio.run(left(lambda storage: storage.all_keys()))
    assert statuses(counted())["all_keys"] == {"cancelled": 1}


def test_a_forked_child_counts_from_zero(server: RedisServer) -> None:
    out = run_script(
        """
        from nano_graphrag_redis import _core
        with SyncRedisKVStorage("full_docs", {"redis_url": URL}) as docs:
            docs.upsert({"a": 1})
            if os.fork() == 0:
                docs.get_by_id("a")
                print(list(_core.metrics()["namespaces"]["full_docs"]["operations"]), flush=True)
                os._exit(0)
            os.wait()
            print(list(_core.metrics()["namespaces"]["full_docs"]["operations"]))
        """,
        server.url,
    ).cleanly()
    assert out.splitlines() == ["['get_by_id']", "['upsert']"]
