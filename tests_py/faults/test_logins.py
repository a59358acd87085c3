"""A password that is rotated under load: no storm of logins, and the new one is picked up."""

from __future__ import annotations

import asyncio
import operator
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage
from nano_graphrag_redis.exceptions import StorageAuthError, StorageError
from support.cluster import RedisCluster
from support.conditions import eventually
from support.guard import Guard
from support.servers import RedisServer

from .rows import Row

CALLERS = 16
"""Threads that call at once, each over a connection of its own, beside one event loop."""
MOST = 3


class Refusals:
    """How many logins the server has refused, and when."""

    def __init__(self, server: RedisServer) -> None:
        self._admin = server.client(single_connection_client=True)
        self._admin.ping()
        self._seen: list[tuple[float, int]] = []

    def look(self) -> int:
        statistics: Any = self._admin.info("commandstats")
        count = int(statistics.get("cmdstat_auth", {}).get("failed_calls", 0))
        self._seen.append((time.monotonic(), count))
        return count

    def worst_second(self) -> int:
        """The most that were refused within one second."""
        return max(
            later - count
            for began, count in self._seen
            for ended, later in self._seen
            if 0 <= ended - began <= 1
        )


class Callers(Guard):
    """Threads and a loop that call without end, all over one storage."""

    def __init__(self, storage: RedisKVStorage) -> None:
        self._storage = storage
        self._stop = threading.Event()
        self.good = [0] * (CALLERS + 1)
        self.refused = 0
        self.other: list[Any] = []
        self._threads = [
            threading.Thread(target=self._block, args=(number,)) for number in range(CALLERS)
        ]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._await())))

    def wait_for_each(self) -> None:
        """Until every one of them has had an answer from now on."""
        before = list(self.good)
        eventually(lambda: all(map(operator.gt, self.good, before)))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _block(self, number: int) -> None:
        while not self._stop.is_set():
            self._count(number, self._outcome(number))
            self._stop.wait(0.005)

    def _outcome(self, number: int) -> Any:
        try:
            return self._storage.sync.get_by_id(str(number))
        except StorageError as error:
            return error

    async def _await(self) -> None:
        while not self._stop.is_set():
            calls = (self._storage.get_by_id(str(number)) for number in range(64))
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                self._count(CALLERS, outcome)
            await asyncio.sleep(0.02)

    def _count(self, number: int, outcome: Any) -> None:
        if outcome is None:
            self.good[number] += 1
        elif isinstance(outcome, StorageAuthError):
            self.refused += 1
        else:
            self.other.append(outcome)


@pytest.fixture
def guarded(server_binary: Path) -> Iterator[RedisServer]:
    with RedisServer(server_binary, password="of the operator") as running:
        yield running


@pytest.mark.row(27)
def test_a_rotated_password_makes_no_storm_of_logins(
    row: Row, guarded: RedisServer, tmp_path: Path
) -> None:
    admin, refusals, file = guarded.client(), Refusals(guarded), tmp_path / "password"

    def rotate(password: str) -> None:
        admin.execute_command("ACL", "SETUSER", "ann", "reset", "on", f">{password}", "~*", "+@all")
        admin.execute_command("CLIENT", "KILL", "USER", "ann")

    rotate("first")
    file.write_text("first")
    settings = {
        "redis_url": guarded.url,
        "redis_username": "ann",
        "redis_password_file": file,
        # A busy machine is late; a timeout is another row's.
        "redis_connection_timeout": 20,
        "redis_socket_timeout": 20,
        "redis_operation_timeout": 60,
    }
    storage = RedisKVStorage("full_docs", settings)
    with closing(storage.sync), Callers(storage) as callers:
        callers.wait_for_each()
        for number in range(row.pick(quick=1, full=5)):
            rotate(f"another {number}")
            ends = time.monotonic() + row.pick(quick=2.5, full=10.0)
            while time.monotonic() < ends:
                refusals.look()
                time.sleep(0.02)
            file.write_text(f"another {number}")
            began = time.monotonic()
            callers.wait_for_each()
            row.within("all calls pass again after", time.monotonic() - began, promised=2.0)
            refusals.look()
    row.at_most("refused logins in a second", refusals.worst_second(), MOST)
    row.saw("calls refused meanwhile", callers.refused)
    row.none("other errors", len(callers.other), of=sum(callers.good))


# Nobody has a map of it yet, so that each call asks all the seeds.
@pytest.mark.row(27)
def test_a_wrong_password_makes_no_storm_at_the_servers_of_a_cluster(
    row: Row, server_binary: Path
) -> None:
    with RedisCluster(server_binary, replicas=False) as cluster:
        watched = [Refusals(server) for server in cluster.servers]
        settings = {
            "redis_url": cluster.url,
            "redis_cluster": True,
            "redis_username": "nobody",
            "redis_password": "wrong",
        }
        storage = RedisKVStorage("full_docs", settings)
        with closing(storage.sync), Callers(storage) as callers:
            ends = time.monotonic() + row.pick(quick=2.5, full=10.0)
            while time.monotonic() < ends:
                for refusals in watched:
                    refusals.look()
                time.sleep(0.02)
    worst = max(refusals.worst_second() for refusals in watched)
    row.at_most("refused logins in a second, a server of a cluster", worst, MOST)
    row.none("other errors, on a cluster", len(callers.other), of=callers.refused)
