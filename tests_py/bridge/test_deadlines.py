"""A server that is gone, or there and silent: calls end in time and say what is known."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from bridge.conftest import OpenStorage
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import (
    CircuitOpenError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer

HALF_A_SECOND: dict[str, Any] = {"redis_operation_timeout": 0.5, "redis_breaker_failures": 1000}
ROOM = 2.5
"""Seconds a call with a deadline of 0.5 may take here."""


LATENCY = 0.45
"""Seconds to an answer: two within a deadline of one second, and no third."""

MANY = {f"id-{number}": number for number in range(600)}
"""More ids than one request of any kind takes."""

Call = Callable[[SyncRedisKVStorage], object]

CALLS: dict[str, Call] = {
    "get_by_id": lambda storage: storage.get_by_id("a"),
    "get_by_ids": lambda storage: storage.get_by_ids(["a", "b"]),
    "filter_keys": lambda storage: storage.filter_keys(["a"]),
    "upsert": lambda storage: storage.upsert({"a": 1}),
    "upsert of several batches": lambda storage: storage.upsert(MANY),
    "delete_by_id": lambda storage: storage.delete_by_id("a"),
    "delete_by_ids": lambda storage: storage.delete_by_ids(["a", "b"]),
    "delete_by_ids of several batches": lambda storage: storage.delete_by_ids(MANY),
    "all_keys": lambda storage: storage.all_keys(),
    "drop": lambda storage: storage.drop(),
    "get_stats": lambda storage: storage.get_stats(),
    "check_health": lambda storage: storage.check_health(),
    "index_done_callback": lambda storage: storage.index_done_callback(),
}

PROCEEDING = {
    *("upsert of several batches", "delete_by_ids of several batches"),
    *("all_keys", "drop", "index_done_callback"),
}
"""Those of many steps, which last for as long as they proceed."""


def seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(StorageTimeoutError, match=r"unknown|no connection in time"):
        call()
    return time.monotonic() - began


def opens(storage: RedisKVStorage) -> None:
    """Calls until the breaker refuses."""
    for _ in range(5):
        with pytest.raises(StorageUnavailableError) as caught:
            storage.sync.get_by_id("a")
        assert not isinstance(caught.value, CircuitOpenError)
    with pytest.raises(CircuitOpenError):
        storage.sync.get_by_id("a")


def answers(storage: RedisKVStorage) -> bool:
    try:
        storage.sync.get_by_id("a")
    except StorageUnavailableError:
        return False
    return True


# The client's own default waits for ever, and each retry would start anew.
def test_a_stalled_server_is_a_timeout_within_the_deadline_of_the_operation(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_url=own_server.url, **HALF_A_SECOND)
    storage.sync.upsert({"a": 1})
    own_server.pause()
    sync = storage.sync
    for call in (
        lambda: sync.get_by_id("a"),
        lambda: sync.get_by_ids(["a", "b"]),
        lambda: sync.filter_keys(["a"]),
        lambda: sync.upsert({"a": 2}),
        lambda: sync.delete_by_id("a"),
        lambda: asyncio.run(storage.get_by_id("a")),
    ):
        assert 0.45 < seconds(call) < ROOM
    own_server.resume()
    assert storage.sync.get_by_id("a") in {1, 2, None}


# Each request of a call had a deadline of its own: three for a delete where there is a registry.
@pytest.mark.parametrize("registry", [False, True], ids=["scan", "registry"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_within_one_deadline_whenever_the_server_falls_silent(
    own_server: RedisServer, open_storage: OpenStorage, name: str, registry: bool
) -> None:
    with Proxy(own_server.port) as proxy:
        deadline = 1.0
        storage = open_storage(
            redis_url=proxy.url,
            redis_operation_timeout=deadline,
            redis_durability="fsync" if name == "index_done_callback" else "ack",
            redis_durability_timeout=0.5,
            redis_breaker_failures=1000,
            redis_registry=registry,
        ).sync
        storage.upsert({"a": 1, "b": 2})
        proxy.latency, proxy.silent_after = LATENCY, 2
        began = time.monotonic()
        with suppress(StorageError):
            CALLS[name](storage)
        took = time.monotonic() - began
    # Two steps were answered, and one was not. Those before it count, unless each begins anew.
    if name in PROCEEDING:
        took -= 2 * LATENCY
    assert took < (1.5 if name == "index_done_callback" else deadline) + 0.8


@pytest.mark.parametrize(
    ("name", "registry"),
    [("delete_by_id", True), ("delete_by_ids", True), ("get_stats", False), ("get_stats", True)],
)
def test_the_requests_of_a_call_share_its_deadline(
    own_server: RedisServer, open_storage: OpenStorage, name: str, registry: bool
) -> None:
    with Proxy(own_server.port) as proxy:
        settings: dict[str, Any] = {"redis_url": proxy.url, "redis_registry": registry}
        storage = open_storage(redis_operation_timeout=1.0, **settings).sync
        storage.upsert({"a": 1, "b": 2})
        storage.get_stats()
        proxy.latency = LATENCY
        with pytest.raises(StorageTimeoutError):
            CALLS[name](storage)


@pytest.mark.parametrize("registry", [False, True], ids=["scan", "registry"])
@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.upsert({f"id-{number}": number for number in range(10_000)}),
        lambda storage: storage.all_keys(),
        lambda storage: storage.drop(),
    ],
    ids=["upsert", "all_keys", "drop"],
)
def test_work_on_many_ids_goes_on_for_as_long_as_it_proceeds(
    own_server: RedisServer, open_storage: OpenStorage, call: Call, registry: bool
) -> None:
    with Proxy(own_server.port) as proxy:
        settings: dict[str, Any] = {"redis_url": proxy.url, "redis_registry": registry}
        storage = open_storage(redis_operation_timeout=1.0, **settings).sync
        storage.upsert({f"id-{number}": number for number in range(10_000)})
        storage.get_stats(light=True)
        proxy.latency = 0.1
        began = time.monotonic()
        call(storage)
        assert time.monotonic() - began > 1.0, "it was over in one step: the test shows nothing"


def test_the_breaker_opens_after_five_failures_fails_at_once_and_closes_by_itself(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_url=own_server.url, redis_operation_timeout=0.2)
    storage.sync.upsert({"a": 1})
    own_server.pause()
    opens(storage)
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(CircuitOpenError, match="full_docs"):
            storage.sync.get_by_id("a")
    assert time.monotonic() - began < 10, "a hundred calls that ask the server take 20 seconds"
    own_server.resume()
    eventually(lambda: answers(storage))
    assert storage.sync.get_by_id("a") == 1
    assert storage.sync.get_stats()["breaker_open"] is False


def test_the_breaker_closes_when_a_killed_server_is_started_again(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_url=own_server.url, redis_max_retries=0)
    storage.sync.upsert({"a": 1})
    own_server.kill()
    opens(storage)
    own_server.start()
    eventually(lambda: answers(storage))


def test_errors_that_the_server_answers_do_not_open_the_breaker(
    server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage()
    server.client().rpush("nano_graphrag:full_docs:list", b"1")
    for _ in range(20):
        with pytest.raises(StorageError) as caught:
            storage.sync.get_by_id("list")
        assert not isinstance(caught.value, StorageUnavailableError)


# A killed connection takes its unanswered requests along: reads and writes of values are sent anew.
def test_calls_that_may_be_repeated_survive_killed_connections(
    server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_max_retries=20)
    over = threading.Event()

    def kill_connections() -> None:
        client = server.client()
        while not over.wait(0.05):
            client.client_kill_filter(_type="normal", skipme=True)

    async def main() -> int:
        ids = [f"id-{number}" for number in range(50)]
        await storage.upsert({id: id for id in ids})
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert await asyncio.gather(*map(storage.get_by_id, ids)) == ids
            await storage.upsert({id: id for id in ids})
        retries: int = (await storage.get_stats(light=True))["retries"]
        return retries

    killer = threading.Thread(target=kill_connections)
    killer.start()
    try:
        assert asyncio.run(main()) > 0, "no connection was killed in time: the test shows nothing"
    finally:
        over.set()
        killer.join()


def test_a_server_that_is_down_is_named_and_its_password_is_not(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(
        redis_url=own_server.url, redis_password="canary-42", redis_max_retries=1
    )
    own_server.kill()
    with pytest.raises(StorageUnavailableError, match=f"127.0.0.1:{own_server.port}") as caught:
        storage.sync.upsert({"doc-1": 1})
    assert "canary-42" not in repr(caught.value) + str(caught.value) + repr(storage)
    assert caught.value.namespace == "full_docs"
    assert caught.value.unconfirmed_ids == ("doc-1",)


# Sent again, a delete would report that the id was not there.
@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_a_delete_whose_reply_was_lost_is_not_sent_again(
    own_server: RedisServer, open_storage: OpenStorage, fault: str
) -> None:
    with Proxy(own_server.port) as proxy:
        storage = open_storage(redis_url=proxy.url, redis_socket_timeout=0.3)
        storage.sync.upsert({"a": 1, "b": 1})
        # One reply passes: that to the PING which goes before what has only one try.
        if fault == "cut":
            proxy.cut_after = 1
        else:
            proxy.silent_after = 1
        with pytest.raises(StorageTimeoutError, match="unknown") as caught:
            storage.sync.delete_by_id("a")
        assert caught.value.id == "a"
        proxy.cut_after = proxy.silent_after = None
        assert storage.sync.filter_keys(["a", "b"]) == {"a"}
    sent = own_server.client().info("commandstats")
    assert sent["cmdstat_unlink"]["calls"] == 1


def test_a_read_whose_reply_was_lost_is_sent_again(
    server: RedisServer, open_storage: OpenStorage
) -> None:
    with Proxy(server.port) as proxy:
        storage = open_storage(redis_url=proxy.url)
        storage.sync.upsert({"a": 1})
        proxy.cut_after = 0
        assert storage.sync.get_by_id("a") == 1
        assert storage.sync.get_stats(light=True)["retries"] > 0


@pytest.mark.parametrize("one_byte", [True, False])
def test_replies_in_fragments_or_half_closed_are_no_trouble(
    server: RedisServer, open_storage: OpenStorage, one_byte: bool
) -> None:
    with Proxy(server.port) as proxy:
        storage = open_storage(redis_url=proxy.url)
        proxy.one_byte = one_byte
        values = {str(number): {"content": "é" * number} for number in range(50)}
        storage.sync.upsert(values)
        assert storage.sync.get_by_ids(values) == list(values.values())
        if not one_byte:
            proxy.half_close()
        assert storage.sync.get_by_ids(values) == list(values.values())
