"""How many connections there are: opened ahead, grown under load, closed when idle, never more."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from connections.conftest import Connections, OpenStorage
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer

CALLS = 2_000
MANY_CALLS = 10_000
"""Calls of one turn share requests, and a busy connection is one with several requests."""


def call_at_once(storage: RedisKVStorage, calls: int) -> None:
    async def main() -> None:
        ids = [str(number) for number in range(calls)]
        await asyncio.gather(*(storage.upsert({id: id}) for id in ids))
        assert await asyncio.gather(*map(storage.get_by_id, ids)) == ids

    asyncio.run(main())


# By the server's own count of all it ever accepted, which no sample can miss.
def test_a_cap_of_one_is_kept_under_thousands_of_calls_at_once(
    server: RedisServer, connections: Connections
) -> None:
    storage = RedisKVStorage("full_docs", {"redis_url": server.url, "redis_max_connections": 1})
    call_at_once(storage, CALLS)
    assert connections.opened() == 1
    storage.sync.close()


# Who sees that a connection is closed opens another: with the permit that it had.
def test_a_cap_of_one_is_enough_for_threads_whose_connection_breaks(
    server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_max_connections=1)
    storage.upsert({"a": 1})
    over = threading.Event()

    def read() -> int:
        count = 0
        while not over.is_set():
            assert storage.get_by_id("a") == 1
            count += 1
        return count

    with ThreadPoolExecutor(8) as pool, server.client() as client:
        reads = [pool.submit(read) for _ in range(8)]
        try:
            for _ in range(300):
                client.client_kill_filter(_type="normal", skipme=True)
                storage.get_by_id("a")
        finally:
            over.set()
        assert all(read.result() for read in reads)


@pytest.mark.parametrize("minimum", [0, 2])
def test_connections_grow_under_load_and_shrink_to_the_minimum_when_idle(
    server: RedisServer, connections: Connections, minimum: int
) -> None:
    with Proxy(server.port) as proxy:
        proxy.delay = 0.02
        config = {
            "redis_url": proxy.url,
            "redis_min_connections": minimum,
            "redis_max_connections": 4,
            # Rarer than a round of calls takes, or what one opens is closed before it is counted.
            "redis_health_check_interval": 1.0,
        }
        storage = RedisKVStorage("full_docs", config)

        def grown() -> bool:
            call_at_once(storage, MANY_CALLS)
            return len(connections.open()) == 4

        eventually(grown)
        eventually(lambda: len(connections.open()) == minimum)
        stays(connections, minimum)
        assert storage.sync.get_by_id("1") == "1"
        storage.sync.close()


def stays(connections: Connections, number: int) -> None:
    """Sees that further looks, each of which pings what it leaves open, close no more."""
    looks = connections.calls("ping") + 3 * number
    eventually(lambda: connections.calls("ping") >= looks)
    assert len(connections.open()) == number


def test_the_minimum_is_opened_at_first_use_when_asked_for(
    open_storage: OpenStorage, connections: Connections
) -> None:
    prewarmed = open_storage(redis_min_connections=4, redis_prewarm_connections=True)
    prewarmed.get_by_id("a")
    eventually(lambda: len(connections.open()) == 4)
    assert connections.opened() == 4


def test_the_minimum_is_not_opened_ahead_by_default(
    open_storage: OpenStorage, connections: Connections
) -> None:
    storage: SyncRedisKVStorage = open_storage(redis_min_connections=4)
    for _ in range(10):
        storage.get_by_id("a")
    assert connections.opened() == 1
