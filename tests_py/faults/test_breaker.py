"""A server that comes and goes, and many clients that want it back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, NamedTuple

import pytest

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import (
    CircuitOpenError,
    StorageOperationError,
    StorageUnavailableError,
)
from support.conditions import eventually
from support.peer import Peer
from support.servers import RedisServer

from .conftest import OpenStorage
from .rows import Row

FAILURES = 5
"""`redis_breaker_failures`, by default."""


class Flapping:
    """A peer that is up or down, and watches how many probe it at a time while it is down.

    Down, it takes connections and answers nothing: whoever asks waits for its own timeout.
    """

    def __init__(self) -> None:
        self.up = threading.Event()
        self.up.set()
        self.asked_while_down = 0
        self.answered = 0

    def answer(self, words: list[bytes]) -> bytes:
        if not self.up.is_set():
            self.asked_while_down += 1
            return b""
        self.answered += 1
        if words[0] == b"GET" and words[1].endswith(b":list"):
            return b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        return b"+PONG\r\n" if words[0] == b"PING" else b"$1\r\n1\r\n"


class Ended(NamedTuple):
    """How a call ended, and what the peer had answered by when it began and when it ended."""

    outcome: str
    begin: int
    end: int


def calls_in_a_row(storage: SyncRedisKVStorage, flapping: Flapping) -> Iterator[Ended]:
    # Errors in a row, more than the failures that would open it.
    for id in itertools.cycle(["a", *["list"] * (FAILURES + 1), "a"]):
        begin = flapping.answered
        try:
            storage.get_by_id(id)
        except CircuitOpenError:
            outcome = "refused"
        except StorageUnavailableError:
            outcome = "unavailable"
        except StorageOperationError:
            outcome = "answered"
        else:
            outcome = "answered"
        yield Ended(outcome, begin, flapping.answered)


def illegal(history: list[Ended]) -> list[str]:
    """What a breaker must not have done, given what one caller in a row saw."""
    found, failures, last_failed_at, is_open = [], 0, 0, False
    for outcome, begin, end in history:
        if is_open and outcome != "refused":
            is_open, failures = False, 0
            own = outcome == "answered"
            if end - own <= last_failed_at:
                found.append("closed though nothing was answered")
        if outcome == "refused" and not is_open:
            is_open = True
            if failures < FAILURES:
                found.append(f"opened after {failures} failures")
        elif outcome == "unavailable":
            failures, last_failed_at = failures + 1, begin
            if failures > FAILURES:
                found.append(f"still closed after {failures} failures")
        elif outcome == "answered":
            failures = 0
    return found


# Each caller that probed would wait for its own timeout, and answers that are errors are answers.
@pytest.mark.row(13)
def test_the_breaker_of_a_flapping_server_makes_no_illegal_transition(
    row: Row, open_storage: OpenStorage, caplog: pytest.LogCaptureFixture
) -> None:
    flaps = row.pick(quick=4, full=60)
    chance = random.Random(13)
    flapping = Flapping()
    with Peer(flapping.answer) as peer:
        short: dict[str, Any] = {
            "redis_url": peer.url, "redis_socket_timeout": 0.1, "redis_max_retries": 0,
            "redis_breaker_recovery": 0.05,
        }  # fmt: skip
        storage = open_storage(**short).sync
        cache = open_storage("llm_response_cache", **short).sync
        caplog.set_level(logging.WARNING)
        calls = calls_in_a_row(storage, flapping)
        # What is looked at once, at first use, would count as well.
        history = list(itertools.islice(calls, 12))
        assert cache.get_by_id("a") == 1
        at_once: list[int] = []
        probed = 0
        for _ in range(flaps):
            flapping.up.clear()
            history.extend(itertools.islice(calls, FAILURES + 1))
            assert history[-1].outcome == "refused", illegal(history)
            assert cache.get_by_id("a") is None
            before = flapping.answered
            eventually(lambda: peer.waiting <= 1)
            flapping.asked_while_down, peer.most_waiting = 0, 0
            until = time.monotonic() + chance.uniform(0.2, 0.4)
            while time.monotonic() < until:  # many callers, none of whom may probe
                history.append(next(calls))
            probed += flapping.asked_while_down
            at_once.append(peer.most_waiting)
            assert flapping.answered == before
            flapping.up.set()
            while history[-1].outcome != "answered":
                history.append(next(calls))
            history.extend(itertools.islice(calls, 12))
            eventually(lambda: cache.get_by_id("a") == 1)
    transitions = illegal(history)
    assert not transitions, transitions
    row.none("illegal transitions", len(transitions), of=2 * flaps)
    row.at_most("probes at a time", max(at_once), 1)
    row.saw("probes", probed)
    told = [
        record.getMessage()
        for record in caplog.records
        if record.event.startswith("outage")  # type: ignore[attr-defined]  # the breaker has its own
    ]
    away, back = told[::2], told[1::2]
    assert len(told) == 2 * flaps, told
    assert all("until the server is back" in line for line in away)
    assert all("the server is back" in line and "until" not in line for line in back)
    row.none("state changes without one line in the log", 2 * flaps - len(told), of=2 * flaps)


def busiest(times: list[float], window: float) -> int:
    """The most events in any stretch of so many seconds."""
    times = sorted(times)
    return max((sum(0 <= each - start < window for each in times) for start in times), default=0)


def clients(url: str, count: int, stack: ExitStack) -> list[RedisKVStorage]:
    """Storages that share no connections, since their settings differ."""
    storages = []
    for number in range(count):
        apart = {"redis_url": url, "redis_socket_timeout": 5 + number / 1e6}
        storages.append(RedisKVStorage("full_docs", apart))
        stack.enter_context(closing(storages[-1].sync))
    return storages


async def is_answered(storage: RedisKVStorage) -> bool:
    with suppress(StorageUnavailableError):
        await storage.get_by_id("a")
        return True
    return False


@pytest.mark.row(14)
def test_many_clients_that_lost_their_server_are_back_soon_after_it_is(
    row: Row, own_server: RedisServer
) -> None:
    count = row.pick(quick=50, full=200)

    async def until_back(storage: RedisKVStorage) -> float:
        while not await is_answered(storage):  # noqa: ASYNC110 - what is waited for is elsewhere
            await asyncio.sleep(0.01)
        return time.monotonic()

    async def main(storages: list[RedisKVStorage]) -> float:
        slowest = 0.0
        for _ in range(row.pick(quick=1, full=5)):
            await asyncio.gather(*(storage.get_by_id("a") for storage in storages))
            own_server.kill()
            waiting = [asyncio.ensure_future(until_back(storage)) for storage in storages]
            # Until every breaker is open, and its probes as far apart as they get.
            await asyncio.sleep(4.0)
            await asyncio.to_thread(own_server.start)
            started = time.monotonic()
            slowest = max(slowest, *(at - started for at in await asyncio.gather(*waiting)))
        return slowest

    with ExitStack() as stack:
        slowest = asyncio.run(main(clients(own_server.url, count, stack)))
    row.saw("clients", count)
    row.within("the last is back", slowest, promised=2.0)


# Clients that fail together and wait alike would come back together, for ever.
@pytest.mark.row(14)
def test_clients_that_failed_together_do_not_knock_together(row: Row) -> None:
    count, window = row.pick(quick=50, full=200), 0.05

    async def main(storages: list[RedisKVStorage], peer: Peer) -> list[float]:
        await asyncio.gather(*map(is_answered, storages))
        peer.hangs_up = True
        for _ in range(FAILURES + 1):
            await asyncio.gather(*map(is_answered, storages))
        await asyncio.sleep(3.0)  # the probes of each are one a second by now
        began = time.monotonic()
        await asyncio.sleep(1.5)
        return [at for at in peer.arrivals if at > began]

    with Peer(lambda _: b"$-1\r\n") as peer, ExitStack() as stack:
        arrivals = asyncio.run(main(clients(peer.url, count, stack), peer))
    assert len(arrivals) >= count
    share = busiest(arrivals, window) / count
    row.at_most(f"knocking within {window * 1000:.0f} ms", 100 * share, 40, "%")
