"""Who holds a lease, and every way in which it ends: the next caller goes on at once."""

from __future__ import annotations

import asyncio
import errno
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, NoReturn

import pytest
import redis

from nano_graphrag_redis import RedisKVStorage
from support.conditions import DEADLINE, eventually

from .conftest import OpenCache

SOON = 1.0
"""Seconds in which the next caller is promised to go on."""
ROOM = 5

ANSWER = {"return": "an answer", "model": "stub"}


async def held(cache: RedisKVStorage, id: str = "question") -> None:
    """Misses, and holds the lease from then on."""
    assert await cache.get_by_id(id) is None


async def waiting(caches: list[RedisKVStorage], number: int) -> None:
    """Returns once so many callers wait for another's answer; either cache may count them."""

    async def waits() -> int:
        stats = [(await cache.get_stats(light=True))["single_flight"] for cache in caches]
        return sum(told["waits"] for told in stats if told)

    deadline = time.monotonic() + DEADLINE
    while await waits() < number:
        assert time.monotonic() < deadline


def leases(client: redis.Redis) -> list[bytes]:
    keys: Any = client.keys("*:@lease:*")
    return list(keys)


@pytest.fixture(params=[0, 1], ids=["the same process", "another process"])
def caches(open_cache: OpenCache, request: pytest.FixtureRequest) -> list[RedisKVStorage]:
    """The holder's cache, and that of whoever waits."""
    return [open_cache(0), open_cache(request.param)]


End = Callable[[RedisKVStorage], Awaitable[Any]]


async def _raises(cache: RedisKVStorage) -> None:
    raise RuntimeError("the LLM refused")


async def _returns(cache: RedisKVStorage) -> None:
    """Ends without an answer."""


async def _asks_another_id(cache: RedisKVStorage) -> None:
    await cache.get_by_id("another")
    await asyncio.sleep(60)


async def _writes(cache: RedisKVStorage) -> None:
    await cache.upsert({"question": ANSWER})
    await asyncio.sleep(60)


async def _is_cancelled(cache: RedisKVStorage) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("end", "found"),
    [
        (_raises, None),
        (_returns, None),
        (_is_cancelled, None),
        (_asks_another_id, None),
        (_writes, ANSWER),
    ],
    ids=["raises", "returns", "is cancelled", "asks another id", "writes"],
)
def test_when_the_holder_ends_its_lease_the_next_goes_on(
    caches: list[RedisKVStorage], end: End, found: object, redis_client: redis.Redis
) -> None:
    cache, other = caches

    async def hold(go: asyncio.Event) -> None:
        await held(cache)
        go.set()
        await waiting(caches, 1)
        ended.append(time.monotonic())
        await end(cache)

    ended: list[float] = []

    async def main() -> None:
        go = asyncio.Event()
        holder = asyncio.create_task(hold(go))
        await go.wait()
        assert await asyncio.create_task(other.get_by_id("question")) == found
        assert ended, f"it went on before its holder had ended: {holder}"
        assert time.monotonic() - ended[0] < SOON * ROOM
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)

    asyncio.run(main())


def test_one_waiter_at_a_time_is_promoted(caches: list[RedisKVStorage]) -> None:
    cache, other = caches
    calling = most = calls = 0

    async def complete() -> object:
        nonlocal calling, most, calls
        found = await other.get_by_id("question")
        if found is None:
            calls, calling = calls + 1, calling + 1
            most = max(most, calling)
            await asyncio.sleep(0.1)
            calling -= 1
            if calls == 1:
                raise RuntimeError("the LLM refused")
            found = ANSWER
            await other.upsert({"question": ANSWER})
        return found

    async def hold(go: asyncio.Event) -> None:
        await held(cache)
        go.set()
        await waiting(caches, 5)

    async def main() -> None:
        go = asyncio.Event()
        holder = asyncio.create_task(hold(go))
        await go.wait()
        answers = await asyncio.gather(*(complete() for _ in range(5)), return_exceptions=True)
        await holder
        assert [type(answer) for answer in answers].count(RuntimeError) == 1
        assert answers.count(ANSWER) == 4

    asyncio.run(main())
    assert (most, calls) == (1, 2)


def test_the_holder_that_tries_again_is_not_kept_waiting(open_cache: OpenCache) -> None:
    cache = open_cache()

    async def main() -> None:
        await held(cache)
        began = time.monotonic()
        for _ in range(3):
            await held(cache)
        assert time.monotonic() - began < SOON * ROOM

    asyncio.run(main())
    stats = cache.sync.get_stats(light=True)["single_flight"]
    assert stats is not None
    assert (stats["leases"], stats["waits"]) == (1, 0)


def test_two_holders_that_ask_for_each_others_ids_do_not_wait_for_each_other(
    open_cache: OpenCache,
) -> None:
    first, second = open_cache(0), open_cache(1)

    async def ask(
        cache: RedisKVStorage, own: tuple[str, asyncio.Event], other: tuple[str, asyncio.Event]
    ) -> float:
        await held(cache, own[0])
        own[1].set()
        await other[1].wait()
        began = time.monotonic()
        assert await cache.get_by_id(other[0]) is None
        return time.monotonic() - began

    async def main() -> tuple[float, float]:
        a, b = ("a", asyncio.Event()), ("b", asyncio.Event())
        return await asyncio.gather(ask(first, a, b), ask(second, b, a))

    assert max(asyncio.run(main())) < SOON * ROOM


def test_a_task_that_is_destroyed_while_it_is_pending_holds_no_lease(
    open_cache: OpenCache, redis_client: redis.Redis
) -> None:
    cache = open_cache()

    def abandon() -> None:
        loop = asyncio.new_event_loop()
        holds = asyncio.Event()

        async def hold() -> None:
            await held(cache)
            holds.set()
            await loop.create_future()

        task = loop.create_task(hold())
        loop.run_until_complete(holds.wait())
        assert len(leases(redis_client)) == 1
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what is tested

    abandon()
    gc.collect()
    eventually(lambda: not leases(redis_client))


def test_who_waits_in_vain_goes_on_after_its_time(open_cache: OpenCache) -> None:
    cache, other = open_cache(0), open_cache(1, redis_single_flight_wait=0.5)

    async def main() -> tuple[Any, float]:
        await held(cache)
        began = time.monotonic()
        # A task of its own: the holder waits for nobody.
        found = await asyncio.create_task(other.get_by_id("question"))
        return found, time.monotonic() - began

    found, seconds = asyncio.run(main())
    assert (found, seconds >= 0.5) == (None, True)
    assert seconds < 0.5 * 4 * ROOM
    stats = other.sync.get_stats(light=True)["single_flight"]
    assert stats == {
        "leases": 0, "waits": 1, "saved": 0, "promoted": 0, "timed_out": 1, "would_wait": 0,
    }  # fmt: skip


def test_a_cancelled_waiter_leaves_at_once_and_is_never_promoted(
    caches: list[RedisKVStorage],
) -> None:
    cache, other = caches

    async def hold(go: asyncio.Event, end: asyncio.Event) -> None:
        await held(cache)
        go.set()
        await end.wait()

    async def main() -> None:
        go, end = asyncio.Event(), asyncio.Event()
        holder = asyncio.create_task(hold(go, end))
        await go.wait()
        leaves = asyncio.create_task(other.get_by_id("question"))
        stays = asyncio.create_task(other.get_by_id("question"))
        await waiting(caches, 2)
        began = time.monotonic()
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert not stays.done(), "it left no sooner than the other"
        end.set()
        assert await stays is None
        assert time.monotonic() - began < SOON * ROOM
        await holder

    asyncio.run(main())


class LoopWithoutDescriptors(asyncio.SelectorEventLoop):
    """Can watch nothing more, as at the limit of descriptors."""

    def add_reader(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise OSError(errno.EMFILE, "too many open files")


# Such a loop waits with each call, so that whoever makes the answer would not go on.
def test_in_a_loop_that_waits_with_its_calls_none_waits_for_another(
    open_cache: OpenCache,
) -> None:
    cache = open_cache(redis_single_flight_wait=5)

    async def answer() -> Any:
        found = await cache.get_by_id("question")
        if found is None:
            await asyncio.sleep(0)
            await cache.upsert({"question": ANSWER})
        return found

    async def both() -> Any:
        return await asyncio.gather(answer(), answer())

    with closing(LoopWithoutDescriptors()) as loop:
        assert loop.run_until_complete(both()) == [None, None]
        stats = loop.run_until_complete(cache.get_stats(light=True))["single_flight"]
    assert stats is not None
    assert stats["waits"] == 0
