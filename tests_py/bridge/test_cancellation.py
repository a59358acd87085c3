"""A cancelled call leaves its request on a connection that others use."""

import asyncio
import random

import pytest

from bridge.conftest import OpenStorage
from nano_graphrag_redis import RedisKVStorage
from support.conditions import descriptors, threads
from support.proxy import Proxy
from support.servers import RedisServer

IDS = [f"id-{number}" for number in range(100)]


async def cancel_half(storage: RedisKVStorage, chance: random.Random) -> int:
    """Reads every id; cancels half of the reads, each at an instant of its own."""
    tasks = {id: asyncio.ensure_future(storage.get_by_id(id)) for id in IDS}
    doomed = chance.sample(IDS, 50)
    loop = asyncio.get_running_loop()
    for id in doomed:
        loop.call_later(chance.uniform(0, 0.02), tasks[id].cancel)
    found = await asyncio.gather(*tasks.values(), return_exceptions=True)
    answered = [(id, value) for id, value in zip(IDS, found, strict=True) if isinstance(value, str)]
    assert all(id == value for id, value in answered), answered
    assert all(isinstance(value, str | asyncio.CancelledError) for value in found)
    await asyncio.sleep(0.02)  # every timer has rung
    return sum(task.cancelled() for task in tasks.values())


# Replies come in order, so a request that is forgotten would hand its answer to the next one.
def test_no_answer_reaches_another_caller_when_reads_are_cancelled(
    server: RedisServer, open_storage: OpenStorage
) -> None:
    async def main() -> int:
        await storage.upsert({id: id for id in IDS})
        assert await storage.get_by_ids(IDS) == IDS
        before = (threads(), descriptors(), len(asyncio.all_tasks()))
        proxy.delay = 0.02
        chance = random.Random(11)
        cancelled = 0
        while cancelled < 2000:
            cancelled += await cancel_half(storage, chance)
        proxy.delay = 0
        assert await storage.get_by_ids(IDS) == IDS
        stats = await storage.get_stats(light=True)
        assert stats["requests_in_flight"] <= 1  # the one that asks
        # The pool may have grown under load: a connection is two descriptors through a proxy.
        grown = 4 * stats["connections"]
        assert threads() <= before[0]
        assert descriptors() <= before[1] + grown
        assert len(asyncio.all_tasks()) == before[2]
        return cancelled

    with Proxy(server.port) as proxy:
        storage = open_storage(redis_url=proxy.url)
        assert asyncio.run(main()) >= 2000


def test_a_timeout_of_the_caller_ends_the_call_and_nothing_else(
    server: RedisServer, open_storage: OpenStorage
) -> None:
    async def main() -> None:
        await storage.upsert({"a": "a", "b": "b"})
        proxy.blackhole = True
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(storage.get_by_id("a"), 0.05)
        proxy.blackhole = False
        assert await asyncio.wait_for(storage.get_by_id("b"), 10) == "b"

    with Proxy(server.port) as proxy:
        storage = open_storage(redis_url=proxy.url, redis_socket_timeout=0.5)
        asyncio.run(main())


def test_a_cancelled_upsert_leaves_the_storage_usable(storage: RedisKVStorage) -> None:
    async def main() -> None:
        for _ in range(20):
            batch = asyncio.ensure_future(storage.upsert({str(n): n for n in range(2000)}))
            await asyncio.sleep(0)
            batch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await batch
            await storage.upsert({"last": "written"})
            assert await storage.get_by_id("last") == "written"

    asyncio.run(main())


# What has left is not taken back; the rest of a batch that nobody waits for is not sent.
def test_a_cancelled_batch_sends_nothing_more(server: RedisServer, storage: RedisKVStorage) -> None:
    client = server.client()

    async def main() -> None:
        batch = asyncio.ensure_future(storage.upsert({str(n): "x" * 500 for n in range(50_000)}))
        while await storage.get_by_id("0") is None:
            pass
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        await storage.get_by_id("0")
        written = client.dbsize()
        for _ in range(100):
            await storage.get_by_id("0")
        # A window of four pieces of 64 was on its way.
        assert client.dbsize() <= written + 256

    asyncio.run(main())


def test_a_cancelled_gather_cancels_each_of_its_calls(storage: RedisKVStorage) -> None:
    async def main() -> None:
        await storage.upsert({id: id for id in IDS})
        together = asyncio.gather(*map(storage.get_by_id, IDS))
        await asyncio.sleep(0)
        together.cancel()
        with pytest.raises(asyncio.CancelledError):
            await together
        assert await asyncio.gather(*map(storage.get_by_id, IDS)) == IDS

    asyncio.run(main())
