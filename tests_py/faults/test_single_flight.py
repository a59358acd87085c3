"""Single flight: whatever becomes of holder, waiters or server, every caller goes on."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from contextlib import suppress
from typing import Any

import pytest
import redis
from nano_graphrag._utils import limit_async_func_call

from nano_graphrag_redis import RedisKVStorage
from single_flight.workers import ASK, Worker, workers
from support.conditions import eventually
from support.servers import RedisServer

from .conftest import OpenStorage
from .rows import Row

LEASE = 10.0
"""Seconds after which the lease of a process that died has run out."""
CALL = 2.0
NEXT = 0.7
"""Seconds beyond the call in which a waiter is promised its answer."""

ASK_WHEN_TOLD = """
async def main():
    asked = [asyncio.ensure_future(timed(complete("question", TAKES))) for _ in range(TASKS)]
    print("asked", flush=True)
    return await asyncio.gather(*asked)

TAKES, TASKS = float(sys.argv[4]), int(sys.argv[5])
report(asyncio.run(main()))
"""


def leases(client: redis.Redis) -> list[bytes]:
    keys: Any = client.keys("*:@lease:*")
    return list(keys)


def start(worker: Worker) -> None:
    worker.say()
    assert worker.line() == "asked"


@pytest.mark.row(47)
def test_a_leader_that_is_killed_costs_one_more_call(
    row: Row, server: RedisServer, redis_client: redis.Redis
) -> None:
    others, tasks = row.pick(quick=2, full=9), 4
    with (
        workers(1, server.url, ASK_WHEN_TOLD, 600, 1, redis_single_flight="on") as (leader,),
        workers(others, server.url, ASK_WHEN_TOLD, CALL, tasks, redis_single_flight="on") as rest,
    ):
        start(leader)
        eventually(lambda: len(leases(redis_client)) == 1)
        for each in rest:
            start(each)
        leader.process.send_signal(signal.SIGKILL)
        reports = [each.report() for each in rest]
    calls = 1 + sum(report.calls for report in reports)
    assert len({answer for report in reports for answer, _ in report.answers}) == 1
    row.saw("calls when the leader is killed", calls)
    assert calls == 2
    slowest = max(seconds for report in reports for _, seconds in report.answers)
    row.within("slowest answer after the kill", slowest, promised=LEASE + CALL + NEXT)


BUSY = """
async def main():
    assert await cache.get_by_id("question") is None
    print("asked", flush=True)
    time.sleep(float(sys.argv[4]))  # the loop stands still, as it does while the host clusters
    await cache.upsert({"question": {"return": "late", "model": "stub"}})
    global calls
    calls += 1
    return []

report(asyncio.run(main()))
"""


@pytest.mark.row(47)
def test_a_leader_whose_loop_stands_still_keeps_its_lease(
    row: Row, server: RedisServer, redis_client: redis.Redis
) -> None:
    busy = row.pick(quick=LEASE + 1, full=3 * LEASE)
    with (
        workers(1, server.url, BUSY, busy, redis_single_flight="on") as (leader,),
        workers(1, server.url, ASK, 4, redis_single_flight="on") as (other,),
    ):
        start(leader)
        other.say()
        assert other.report().calls == 0
        assert leader.report().calls == 1
    row.saw("a loop that stood still for", f"{busy:.0f} s, 1 call")


@pytest.fixture
def caches(open_storage: OpenStorage) -> list[RedisKVStorage]:
    """Two workers that share no connections, and so meet at the server alone."""
    return [cache_of(open_storage, number) for number in range(2)]


def cache_of(open_storage: OpenStorage, worker: int, **settings: Any) -> RedisKVStorage:
    given = {"redis_single_flight": "on", "redis_max_connections": 50 + worker, **settings}
    return open_storage("llm_response_cache", **given)


async def until_waiting(cache: RedisKVStorage, number: int) -> None:
    while True:
        told = (await cache.get_stats(light=True))["single_flight"]
        assert told is not None
        if told["waits"] >= number:
            return


@pytest.mark.row(47)
@pytest.mark.parametrize("other", [0, 1], ids=["the same process", "another process"])
def test_a_leader_that_raises_is_followed_within_a_second(
    row: Row, caches: list[RedisKVStorage], other: int
) -> None:
    first, second = caches[0], caches[other]
    raised = 0.0

    async def fail(id: str, holds: asyncio.Event, number: int) -> None:
        nonlocal raised
        assert await first.get_by_id(id) is None
        holds.set()
        await until_waiting(second, number)
        raised = time.monotonic()
        raise RuntimeError("the LLM refused")

    async def once(number: int) -> float:
        holds = asyncio.Event()
        leader = asyncio.create_task(fail(f"question-{number}", holds, number))
        await holds.wait()
        assert await asyncio.create_task(second.get_by_id(f"question-{number}")) is None
        took = time.monotonic() - raised
        await asyncio.wait([leader])
        assert isinstance(leader.exception(), RuntimeError)
        return took

    async def main() -> float:
        return max([await once(number) for number in range(1, 1 + times)])

    times = row.pick(quick=3, full=50)
    row.within("next call after one that raised", asyncio.run(main()), promised=1.0)


@pytest.mark.row(47)
def test_waiters_of_a_leader_that_hangs_leave_in_time(row: Row, open_storage: OpenStorage) -> None:
    wait = row.pick(quick=1.0, full=60.0)
    caches = [cache_of(open_storage, n, redis_single_flight_wait=wait) for n in range(2)]

    async def ask(cache: RedisKVStorage) -> float:
        began = time.monotonic()
        assert await cache.get_by_id("question") is None
        return time.monotonic() - began

    async def main() -> list[float]:
        assert await caches[0].get_by_id("question") is None
        return await asyncio.gather(*(ask(cache) for cache in caches * 20))

    waited = asyncio.run(main())
    assert min(waited) >= wait
    row.within("beyond redis_single_flight_wait", max(waited) - wait, promised=0.5)


@pytest.mark.row(47)
def test_random_cancellations_lose_no_lease_and_mix_no_answers(
    row: Row, caches: list[RedisKVStorage], redis_client: redis.Redis
) -> None:
    seed = random.randrange(1 << 32)
    row.saw("seed", f"{seed}")
    chance = random.Random(seed)
    count, at_once = row.pick(quick=400, full=20_000), 40
    wrong = cancelled = calls = 0

    async def complete(cache: RedisKVStorage, id: str, takes: float, fails: bool) -> None:
        nonlocal wrong, calls
        found = await cache.get_by_id(id)
        if found is None:
            calls += 1
            await asyncio.sleep(takes)
            if fails:
                raise RuntimeError("the LLM refused")
            await cache.upsert({id: {"return": f"answer to {id}", "model": "stub"}})
        elif found["return"] != f"answer to {id}":
            wrong += 1

    async def one(number: int) -> None:
        nonlocal cancelled
        id = f"question-{number // at_once * 4 + chance.randrange(4)}"
        asked = complete(chance.choice(caches), id, chance.uniform(0, 0.05), chance.random() < 0.3)
        task = asyncio.create_task(asked)
        if chance.random() < 0.7:
            await asyncio.sleep(chance.uniform(0, 0.08))
            cancelled += task.cancel()
        with suppress(RuntimeError, asyncio.CancelledError):
            await task

    async def main() -> None:
        for start in range(0, count, at_once):
            await asyncio.wait_for(
                asyncio.gather(*(one(number) for number in range(start, start + at_once))), 60
            )

    asyncio.run(main())
    row.saw("cancelled", cancelled)
    row.none("wrong answers", wrong, of=count)
    eventually(lambda: not leases(redis_client), within=LEASE + 1)
    row.none("leases left", len(leases(redis_client)), of=calls)


@pytest.mark.row(47)
@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_waiters_miss_when_the_server_dies(row: Row, own_server: RedisServer, fault: str) -> None:
    timeout = row.pick(quick=2.0, full=10.0)
    settings = {
        "redis_url": own_server.url,
        "redis_single_flight": "on",
        "redis_operation_timeout": timeout,
        "redis_socket_timeout": timeout / 2,
    }
    one = RedisKVStorage("llm_response_cache", settings)
    two = RedisKVStorage("llm_response_cache", {**settings, "redis_max_connections": 49})

    async def ask(cache: RedisKVStorage) -> float:
        assert await cache.get_by_id("question") is None
        return time.monotonic()

    async def main() -> float:
        assert await one.get_by_id("question") is None
        waiting = [asyncio.create_task(ask(cache)) for cache in (one, two) for _ in range(80)]
        await asyncio.gather(until_waiting(one, 80), until_waiting(two, 80))
        {"kill": own_server.kill, "pause": own_server.pause}[fault]()
        died = time.monotonic()
        return max(await asyncio.gather(*waiting)) - died

    try:
        row.within(f"160 waiters after a {fault}", asyncio.run(main()), promised=timeout)
    finally:
        if fault == "pause":
            own_server.resume()
        one.sync.close()
        two.sync.close()


@pytest.mark.row(47)
def test_a_host_that_makes_one_call_at_a_time_does_not_hang(
    row: Row, caches: list[RedisKVStorage]
) -> None:
    calls = 0

    def limited(cache: RedisKVStorage) -> Any:
        async def complete(id: str) -> str:
            nonlocal calls
            found = await cache.get_by_id(id)
            if found is None:
                calls += 1
                await asyncio.sleep(0.05)
                found = {"return": f"answer to {id}", "model": "stub"}
                await cache.upsert({id: found})
            return str(found["return"])

        return limit_async_func_call(1)(complete)

    async def main() -> float:
        began = time.monotonic()
        host = [limited(cache) for cache in caches]
        ids = [f"question-{number % 5}" for number in range(50)]
        asked = [host[number % 2](id) for number, id in enumerate(ids)]
        answers = await asyncio.wait_for(asyncio.gather(*asked), 60)
        assert answers == [f"answer to {id}" for id in ids]
        return time.monotonic() - began

    row.saw("50 tasks through a limit of 1, s", asyncio.run(main()))
    row.at_most("calls for 5 questions", calls, 5)


OFF = {"redis_single_flight": "off"}


@pytest.mark.row(47)
def test_off_no_command_is_sent_for_it(
    row: Row, open_storage: OpenStorage, redis_client: redis.Redis
) -> None:
    cache = open_storage("llm_response_cache", **OFF)
    times = row.pick(quick=20, full=1_000)

    async def main() -> None:
        for number in range(times):
            assert await asyncio.create_task(cache.get_by_id(f"question-{number}")) is None
            await cache.upsert({f"question-{number}": {"return": "an answer", "model": "stub"}})

    def sent() -> dict[str, int]:
        told: dict[str, Any] = redis_client.info("commandstats")
        names = ("get", "set", "unlink", "del", "pexpire", "pttl", "exists", "eval", "evalsha")
        return {name: told.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names}

    assert cache.sync.check_health()
    before = sent()
    asyncio.run(main())
    after = sent()
    expected = before | {name: before[name] + times for name in ("get", "set")}
    extra = sum(after.values()) - sum(expected.values())
    assert json.dumps(after) == json.dumps(expected)
    row.none("extra commands when off", extra, of=2 * times)
