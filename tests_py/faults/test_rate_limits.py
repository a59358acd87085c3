"""A limit that all workers share: kept to, used, fair, and given back by the killed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from support.conditions import eventually
from support.scripts import start_script
from support.servers import RedisServer

from .rows import Row

WORKER = """
import json
from nano_graphrag_redis import limit_llm
from nano_graphrag_redis.llm import slot_renewal

MODEL, TASKS, SECONDS, LIMITS, SLOT_TTL, SKEW = map(json.loads, sys.argv[2:])
slot_renewal.SLOT_TTL, slot_renewal.RENEW_EVERY = SLOT_TTL, SLOT_TTL / 3
ARRIVE_WITHIN = 1.0
real = time.time
time.time = lambda: real() + SKEW
started = []

class Refused(Exception):
    status_code = 429
    headers = {"retry-after": "5"}
    response = property(lambda self: self)

async def answer(seconds, refuse=0.0):
    started.append(time.monotonic())
    await asyncio.sleep(seconds)
    if refuse:
        Refused.headers = {"retry-after": str(refuse)}
        raise Refused

limited = limit_llm(answer, {"redis_url": URL}, model=MODEL, **LIMITS)

async def work(until, place, places):
    async def one(number):
        # Tasks of all workers arrive in turn, as those of independent callers do, not in blocks.
        await asyncio.sleep(ARRIVE_WITHIN * (number * places + place) / (TASKS * places))
        while time.monotonic() < until:
            await limited(0.1)
    tasks = [asyncio.ensure_future(one(number)) for number in range(TASKS)]
    await asyncio.wait(tasks, timeout=until - time.monotonic())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

asyncio.run(asyncio.sleep(0))
print("ready", flush=True)
for line in sys.stdin:
    command, *words = line.split()
    if command == "work":
        began = float(words[0])
        time.sleep(max(0.0, began - time.monotonic()))
        asyncio.run(work(began + SECONDS, int(words[1]), int(words[2])))
        print(json.dumps(started), flush=True)
    elif command == "hold":
        async def hold():
            calls = [asyncio.ensure_future(limited(3600.0)) for _ in range(int(words[0]))]
            while len(started) < int(words[0]):
                await asyncio.sleep(0.001)
            print("holding", flush=True)
            await asyncio.gather(*calls)
        asyncio.run(hold())
    elif command == "take":
        asyncio.run(limited(0.0))
        print(time.monotonic(), flush=True)
    elif command == "refuse":
        try:
            asyncio.run(limited(0.0, float(words[0])))
        except Refused:
            print(time.monotonic(), flush=True)
"""


class Worker(NamedTuple):
    """A process that makes limited calls when it is told to."""

    process: subprocess.Popen[str]

    def say(self, words: str) -> None:
        """A command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return line


@contextmanager
def workers(
    count: int,
    server: RedisServer,
    *,
    tasks: int = 1,
    seconds: float = 0.0,
    slot_ttl: float = 15.0,
    skew: float = 0.0,
    **limits: float,
) -> Iterator[list[Worker]]:
    """So many processes, ready."""
    started = []
    try:
        for number in range(count):
            shift = skew * (number % 3 - 1)
            words = ["model", tasks, seconds, limits, slot_ttl, shift]
            started.append(Worker(start_script(WORKER, server.url, *map(json.dumps, words))))
        for worker in started:
            assert worker.hear() == "ready\n"
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate()


def slots(server: RedisServer) -> dict[bytes, int]:
    """When each slot expires that is held, in microseconds of the server's clock."""
    (key,) = server.client().keys("nano_graphrag:@limit:*")
    state: Any = server.client().hgetall(key)
    return {name: int(ends) for name, ends in state.items() if name.startswith(b"s:")}


def most_in(window: float, times: list[float]) -> int:
    """The largest number of times in any window of so many seconds."""
    return max(bisect_left(times, at + window) - number for number, at in enumerate(times))


@pytest.mark.row(49)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("skew", [0.0, 5.0], ids=["one clock", "clocks apart"])
def test_the_limit_is_kept_to_used_and_shared_alike(
    row: Row, server: RedisServer, skew: float
) -> None:
    count, tasks = row.pick(quick=(4, 16), full=(10, 32))
    a_minute, seconds, window = row.pick(quick=(1200, 6.0, 3.0), full=(600, 75.0, 60.0))
    burst = a_minute // 60
    with workers(
        count, server, tasks=tasks, seconds=seconds, skew=skew, requests_per_minute=a_minute
    ) as processes:
        began = time.monotonic() + 0.5
        for place, process in enumerate(processes):
            process.say(f"work {began} {place} {count}")
        made = [json.loads(process.hear()) for process in processes]
    times = sorted(at for each in made for at in each)
    permitted = burst + a_minute * window / 60
    row.at_most(
        f"calls in any {window:.0f} s of {permitted:.0f}", most_in(window, times), permitted
    )
    use = len(times) / (burst + a_minute * seconds / 60)
    row.saw("use of the limit", f"{use:.1%}")
    assert use >= row.pick(quick=0.9, full=0.97)
    share = len(times) / count
    row.saw("calls of each worker", " ".join(str(len(each)) for each in made))
    off = max(abs(len(each) - share) for each in made) / share
    row.saw("shares of workers off their mean by", f"{off:.1%}")
    assert off <= row.pick(quick=0.3, full=0.1)


@pytest.mark.row(49)
def test_the_slots_of_killed_holders_come_back_in_their_time(row: Row, server: RedisServer) -> None:
    holders, ttl = row.pick(quick=(5, 1.5), full=(50, 15.0))
    with workers(2, server, slot_ttl=ttl, concurrent=holders) as (holding, waiting):
        holding.say(f"hold {holders}")
        assert holding.hear() == "holding\n"
        waiting.say("take")
        began = time.monotonic()
        later = {name: ends + 2 * ttl * 1e6 for name, ends in slots(server).items()}
        eventually(lambda: all(slots(server)[name] >= ends for name, ends in later.items()))
        holding.process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        taken = float(waiting.hear())
    row.none("slots lost while their holder lived", int(taken < killed), of=holders)
    assert taken - began > 2 * ttl
    row.within("slots back after a kill", taken - killed, promised=ttl + 0.5)


@pytest.mark.row(49)
def test_no_worker_calls_while_a_provider_asks_to_wait(row: Row, server: RedisServer) -> None:
    pause, count = row.pick(quick=(1.5, 3), full=(5.0, 10))
    with workers(count, server, requests_per_minute=60_000) as processes:
        processes[0].say(f"refuse {pause}")
        refused = float(processes[0].hear())
        for process in processes:
            process.say("take")
        first = min(float(process.hear()) for process in processes)
    early = first < refused + pause - 0.1
    row.none(f"calls within {pause} s of a 429", int(early), of=count)
    row.within("calls go on after it", first - refused - pause, promised=0.5)


@pytest.mark.row(49)
def test_an_outage_holds_each_worker_to_its_share(row: Row, own_server: RedisServer) -> None:
    count, tasks = row.pick(quick=(3, 8), full=(10, 32))
    a_minute, seconds, window = row.pick(quick=(1800, 4.0, 2.0), full=(600, 65.0, 60.0))
    with workers(
        count, own_server, tasks=tasks, seconds=seconds, requests_per_minute=a_minute
    ) as processes:
        for process in (*processes, *processes):  # each learns of the others
            process.say("take")
            process.hear()
        own_server.kill()
        began = time.monotonic() + 0.5
        for place, process in enumerate(processes):
            process.say(f"work {began} {place} {count}")
        made = [json.loads(process.hear()) for process in processes]
    times = sorted(at for each in made for at in each if at >= began)
    burst = max(a_minute / 60, count)  # each worker may send one at once
    permitted = burst + a_minute * window / 60
    row.at_most(
        f"calls in any {window:.0f} s of {permitted:.0f}", most_in(window, times), permitted
    )
    row.saw("use of the limit in an outage", f"{len(times) / (a_minute * seconds / 60):.1%}")
    assert all(len(each) > 2 for each in made)
