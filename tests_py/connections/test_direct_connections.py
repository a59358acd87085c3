"""A call's own thread drives its own connection: one for a loop, one for a thread that blocks."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from connections.conftest import Connections, OpenStorage
from nano_graphrag_redis import RedisKVStorage
from nano_graphrag_redis.exceptions import StorageTimeoutError
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer


def test_a_loop_needs_one_connection_for_a_thousand_calls_at_once(
    server: RedisServer, connections: Connections
) -> None:
    async def main() -> None:
        async with RedisKVStorage("full_docs", {"redis_url": server.url}) as storage:
            ids = [str(number) for number in range(1000)]
            await storage.upsert({id: id for id in ids})
            assert await asyncio.gather(*map(storage.get_by_id, ids)) == ids
            assert len(connections.open()) == 1

    asyncio.run(main())
    assert connections.opened() == 1


def test_threads_that_block_at_once_have_one_each_and_leave_them_to_the_next(
    open_storage: OpenStorage, connections: Connections
) -> None:
    storage = open_storage()
    for _ in range(5):
        together = threading.Barrier(4)

        def use(number: int, together: threading.Barrier = together) -> None:
            together.wait()
            for _ in range(20):
                storage.upsert({str(number): number})
                assert storage.get_by_id(str(number)) == number

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(use, range(4)))
    assert connections.opened() <= 4


# A thread that found the cap reached waits for nobody: the pool's connection is shared.
def test_more_threads_than_connections_stay_below_the_cap(
    open_storage: OpenStorage, connections: Connections
) -> None:
    storage = open_storage(redis_max_connections=3)
    together = threading.Barrier(12)

    def use(number: int) -> None:
        together.wait()
        for _ in range(20):
            storage.upsert({str(number): number})
            assert storage.get_by_id(str(number)) == number

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(use, range(12)))
    assert connections.opened() <= 3


# It says nothing about the server, and nobody chose that it be kept open.
@pytest.mark.parametrize("calls", ["blocking", "awaited"])
def test_a_connection_that_was_lost_while_idle_costs_no_attempt(
    server: RedisServer, open_storage: OpenStorage, connections: Connections, calls: str
) -> None:
    def lose() -> None:
        (client,) = connections.open()
        server.client().client_kill_filter(_id=client["id"])

    async def main() -> None:
        config = {"redis_url": server.url, "redis_max_retries": 0}
        async with RedisKVStorage("full_docs", config) as storage:
            await storage.upsert({"a": 1})
            lose()
            assert await storage.get_by_id("a") == 1
            lose()
            assert await storage.delete_by_id("a")

    if calls == "awaited":
        asyncio.run(main())
        return
    storage = open_storage(redis_max_retries=0)
    storage.upsert({"a": 1})
    lose()
    assert storage.get_by_id("a") == 1
    lose()
    assert storage.delete_by_id("a")


# Its answer comes after the next caller's question, on the connection that was left behind.
def test_what_a_call_left_behind_answers_no_other(
    server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(
        redis_socket_timeout=0.3, redis_operation_timeout=0.3, redis_breaker_failures=1000
    )
    storage.upsert({str(number): number for number in range(10)})
    for number in range(5):
        server.client().client_pause(400)
        with pytest.raises(StorageTimeoutError):
            storage.get_by_id(str(number))
        eventually(lambda: server.client().ping())
        assert storage.get_by_id(str(number + 1)) == number + 1


# The loop's thread is the one that reads: it may be clustering a graph while answers wait.
def test_time_in_which_the_loop_did_not_look_is_no_timeout(
    server: RedisServer, connections: Connections
) -> None:
    async def main() -> None:
        config = {
            "redis_url": server.url,
            "redis_socket_timeout": 1.5,
            "redis_operation_timeout": 1.5,
            "redis_max_retries": 1,
        }
        async with RedisKVStorage("full_docs", config) as storage:
            large = {str(number): "x" * 100_000 for number in range(20)}
            await storage.upsert(large)
            calls = asyncio.gather(*map(storage.get_by_id, large), storage.upsert({"a": 1}))
            sent = connections.calls("get") + 1
            while connections.calls("get") < sent:  # noqa: ASYNC110 (the server's word)
                await asyncio.sleep(0)
            time.sleep(3.0)  # noqa: ASYNC251 (as a host that does not await)
            assert (await calls)[:-1] == list(large.values())

    asyncio.run(main())
    assert connections.opened() == 1


def test_a_loop_that_is_closed_leaves_no_connection(
    server: RedisServer, connections: Connections
) -> None:
    storage = RedisKVStorage("full_docs", {"redis_url": server.url})
    for _ in range(5):
        asyncio.run(storage.upsert({"a": 1}))
        eventually(lambda: not connections.open())
    storage.sync.close()


# What does not fit is sent when the socket takes it, and the loop serves others meanwhile.
def test_a_request_larger_than_the_socket_leaves_in_parts(server: RedisServer) -> None:
    async def main() -> None:
        with Proxy(server.port) as proxy:
            proxy.delay = 0.01
            async with RedisKVStorage("full_docs", {"redis_url": proxy.url}) as storage:
                large = {str(number): "x" * 1_000_000 for number in range(40)}
                await storage.upsert(large)
                assert await storage.get_by_ids(list(large)) == list(large.values())

    asyncio.run(main())


# The length of an array is not told ahead: each part that came was parsed again from its start.
def test_an_answer_of_many_parts_larger_than_the_buffer_is_whole(open_storage: OpenStorage) -> None:
    storage = open_storage()
    ids = {f"{number}-{'x' * 2000}" for number in range(3000)}
    storage.upsert(dict.fromkeys(ids, 1))
    assert set(storage.all_keys()) == ids


# Time in which it did not look is forgiven, but not for ever.
def test_a_loop_that_is_always_busy_meets_its_deadlines_too(server: RedisServer) -> None:
    async def busy(until: asyncio.Event) -> None:
        while not until.is_set():
            time.sleep(0.1)  # noqa: ASYNC251 (as a host that hardly awaits)
            await asyncio.sleep(0)

    async def main() -> None:
        config = {"redis_url": server.url, "redis_operation_timeout": 0.5, "redis_max_retries": 0}
        async with RedisKVStorage("full_docs", config) as storage:
            await storage.upsert({"a": 1})
            server.pause()
            over = asyncio.Event()
            others = asyncio.create_task(busy(over))
            with pytest.raises(StorageTimeoutError):
                await storage.get_by_id("a")
            over.set()
            await others

    try:
        began = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - began < 10
    finally:
        server.resume()


def test_a_server_that_does_not_answer_keeps_nobody_from_another(server: RedisServer) -> None:
    async def main(other: RedisServer) -> None:
        config = {"redis_operation_timeout": 4.0, "redis_connection_timeout": 4.0}
        silent = RedisKVStorage("full_docs", {"redis_url": other.url, **config})
        well = RedisKVStorage("full_docs", {"redis_url": server.url, **config})
        calls = asyncio.gather(*map(silent.get_by_id, "abcdefgh"), return_exceptions=True)
        await asyncio.sleep(0)
        assert await well.get_by_id("a") is None
        assert not calls.done()
        assert all(isinstance(error, StorageTimeoutError) for error in await calls)
        await silent.close()
        await well.close()

    with RedisServer() as other:
        other.pause()
        try:
            asyncio.run(main(other))
        finally:
            other.resume()
