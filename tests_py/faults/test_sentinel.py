"""A stalled master is replaced, and what it says when it wakes is not believed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.checker import CONFIRMED, Checker
from support.conditions import eventually
from support.guard import Guard
from support.sentinel import Sentinels

from .rows import Row

WRITERS = 4
NEW_MASTER = 3.5
"""Seconds from the stall to the first write that is confirmed by another server."""


class Writers(Guard):
    """Threads that write, each its own id, one number after the other."""

    def __init__(self, storage: SyncRedisKVStorage) -> None:
        self._storage = storage
        self._stop = threading.Event()
        self.checker = Checker()
        self.last = [0.0] * WRITERS
        self._threads = [
            threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)
        ]

    def _write(self, number: int) -> None:
        while not self._stop.is_set():
            with self.checker.write(f"id-{number}") as operation:
                self._storage.upsert({f"id-{number}": operation.sequence})
                self.last[number] = time.monotonic()
            self._stop.wait(0.002)

    def wait_for_each(self) -> float:
        """Until each has written something from now on; when the last of them had."""
        now = time.monotonic()
        eventually(lambda: min(self.last) > now)
        return min(self.last)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def sentinels(server_binary: Path) -> Iterator[Sentinels]:
    with Sentinels(server_binary) as running:
        yield running


@pytest.mark.row(8)
def test_no_acknowledgement_of_a_master_that_was_stalled_is_believed(
    row: Row, sentinels: Sentinels
) -> None:
    stale, writes = 0, 0
    with SyncRedisKVStorage("full_docs", sentinels.settings) as storage:
        for _ in range(row.pick(quick=1, full=5)):
            with Writers(storage) as writers:
                writers.wait_for_each()
                stalled = sentinels.master
                stalled.pause()
                began = time.monotonic()
                # What it had answered before is still on its way, and no word of a new one.
                eventually(lambda stalled=stalled: sentinels.master is not stalled)
                row.within("new master", writers.wait_for_each() - began, NEW_MASTER)
                stalled.resume()
                writers.wait_for_each()
                # Until it has been told, and has thrown away what it had accepted.
                eventually(lambda stalled=stalled: not sentinels.takes_itself_for_master(stalled))
                writers.wait_for_each()
            ids = writers.checker.ids
            found = dict(zip(ids, storage.get_by_ids(ids), strict=True))
            stale += len(writers.checker.wrong(found))
            writes += writers.checker.count(CONFIRMED)
            storage.drop()
            eventually(lambda: sentinels.is_whole)
    row.none("stale acknowledgements", stale, of=writes)


@pytest.mark.row(8)
def test_an_answer_that_waited_in_a_stalled_master_is_not_taken(
    row: Row, sentinels: Sentinels
) -> None:
    settings = sentinels.settings | {"redis_socket_timeout": 30.0, "redis_operation_timeout": 40.0}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": "before"})
        stalled = sentinels.master
        stalled.pause()
        writer = threading.Thread(target=storage.upsert, args=({"a": "after"},))
        writer.start()
        eventually(lambda: sentinels.master is not stalled)
        stalled.resume()
        writer.join()
        eventually(lambda: not sentinels.takes_itself_for_master(stalled))
        row.none("lost writes", int(storage.get_by_id("a") != "after"), of=1)
