"""A server that is there and silent: deadlines hold, and a dead connection is noticed."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageTimeoutError
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer

from .conftest import OpenStorage
from .rows import Row

DEADLINE = 0.5
THREADS = 2
"""That block, while a loop waits for many calls at once."""


@contextmanager
def stopped(server: RedisServer, seconds: float) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def paused_clients(server: RedisServer, seconds: float) -> Iterator[None]:
    server.client().client_pause(int(seconds * 1000))  # ends by itself: its end would wait, too
    yield


Stall = Callable[[RedisServer, float], AbstractContextManager[None]]


def is_back(storage: SyncRedisKVStorage) -> bool:
    with suppress(StorageTimeoutError):
        return bool(storage.get_by_id("a") == 1)
    return False


# Each retry starts with time of its own, unless the operation has one deadline for all.
@pytest.mark.row(12)
@pytest.mark.parametrize("stall", [stopped, paused_clients])
@pytest.mark.parametrize("attempt", [5.0, 0.12], ids=["one attempt", "several"])
def test_no_call_overshoots_its_deadline_while_the_server_stalls(
    row: Row, own_server: RedisServer, open_storage: OpenStorage, stall: Stall, attempt: float
) -> None:
    storage = open_storage(
        redis_url=own_server.url,
        redis_operation_timeout=DEADLINE,
        redis_socket_timeout=attempt,
        redis_max_retries=100,
        redis_breaker_failures=1_000_000,
    )
    storage.sync.upsert({"a": 1})
    at_once, stalls = row.pick(quick=20, full=100), row.pick(quick=1.5, full=10.0)
    late: list[float] = []

    def overshoot(began: float) -> None:
        late.append(time.monotonic() - began - DEADLINE)

    async def awaiting(until: float) -> None:
        while (began := time.monotonic()) < until:
            with pytest.raises(StorageTimeoutError, match=r"unknown|no connection in time"):
                await storage.get_by_id("a")
            overshoot(began)

    def blocking(until: float) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: storage.sync.get_by_id("a"),
            lambda: storage.sync.upsert({"a": 1}),
        ]
        while (began := time.monotonic()) < until:
            with pytest.raises(StorageTimeoutError, match=r"unknown|no connection in time"):
                calls[len(late) % 2]()
            overshoot(began)

    async def main(until: float) -> None:
        await asyncio.gather(*(awaiting(until) for _ in range(at_once)))

    with stall(own_server, stalls):
        until = time.monotonic() + stalls - 2 * DEADLINE
        threads = [threading.Thread(target=blocking, args=(until,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        asyncio.run(main(until))
        for thread in threads:
            thread.join()
    eventually(lambda: is_back(storage.sync))
    assert min(late) > -0.1, "a call gave up before its deadline"
    row.saw("calls that met a stall", len(late))
    row.within("overshoot p99.9", statistics.quantiles(late, n=1000)[-1], promised=0.05)


# Nothing says that the other end is gone: only an answer that does not come.
@pytest.mark.row(30)
def test_a_connection_that_died_without_a_word_is_noticed_and_replaced(
    row: Row, proxy: Proxy, open_storage: OpenStorage
) -> None:
    timeout = 0.3
    late = []
    storage = open_storage(redis_url=proxy.url, redis_socket_timeout=timeout)
    storage.sync.upsert({"a": 1})
    for number in range(row.pick(quick=3, full=50)):
        proxy.deafen()
        began = time.monotonic()
        if number % 2:
            assert asyncio.run(storage.get_by_id("a")) == 1
        else:
            assert storage.sync.get_by_id("a") == 1
        late.append(time.monotonic() - began - timeout)
    # A loop of its own has a connection of its own; it is the other calls that met a dead one.
    assert sum(each > -0.1 for each in late) >= len(late) // 2
    row.within("noticed after the timeout", max(late), promised=0.1)
    row.named(
        "packets are not dropped, which takes privileges: a proxy swallows replies on a"
        " connection that stays open"
    )
