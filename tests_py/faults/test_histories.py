"""Eight processes write, read and delete, and all that they are told has one order.

What is promised, and checked: with `redis_max_retries=0`, what a call returned or what an error
did not list as unconfirmed is linearizable. A read may be answered by a copy of the near cache,
which is as old as `redis_socket_timeout` at most, and never older than what its own process did
last. Over a failover, a write counts once its barrier has passed, and a read unless it was told by
the server that died and no barrier has passed since.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support import history
from support.cluster import RedisCluster
from support.conditions import eventually
from support.history import Operation
from support.proxy import Proxy
from support.scripts import LIGHT_HOST, python_path
from support.sentinel import Sentinels
from support.servers import RedisServer

from .rows import Row

PROCESSES = 8
IDS = 8
LEASE = 0.5
"""Seconds that a copy is served for after a tracking connection has fallen silent."""

SETTINGS: dict[str, Any] = {
    "redis_max_retries": 0,
    "redis_socket_timeout": LEASE,
    "redis_operation_timeout": 2.0,
    "redis_breaker_recovery": 0.05,
}
TELLING = Path(__file__).with_name("telling.py")


class Processes:
    """Those that tell: with each of the settings in turn, a near cache or none."""

    def __init__(self, directory: Path, settings: list[dict[str, Any]], seed: int) -> None:
        self._directory = directory
        self._settings = settings
        self._seed = seed
        self._ids = b""
        self._count = 0
        self._caching: set[str] = set()
        self.running: dict[Path, subprocess.Popen[bytes]] = {}
        self.ended: list[Path] = []

    def start(self) -> None:
        self._count += 1
        settings = {**self._settings[self._count % len(self._settings)], **SETTINGS}
        log = self._directory / f"p{self._count}"
        if "redis_near_cache_mb" in settings:
            self._caching.add(log.name)
        arguments = [json.dumps(settings), str(self._count), str(self._seed + self._count)]
        with log.open("wb") as notes:
            self.running[log] = subprocess.Popen(
                [sys.executable, TELLING, *arguments],
                stdin=subprocess.PIPE,
                stdout=notes,
                env={**os.environ, "PYTHONPATH": python_path(LIGHT_HOST, TELLING.parents[1])},
            )
        self._tell(self.running[log])

    def _tell(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.write(self._ids)
        process.stdin.flush()

    def go_on_with(self, ids: list[str]) -> None:
        self._ids = " ".join(ids).encode() + b"\n"
        for process in self.running.values():
            self._tell(process)
        self.wait_for_each()

    def wait_for_each(self) -> None:
        """Until each has been told something good of what it began from now on."""
        now = time.monotonic_ns()

        def is_well(log: Path) -> bool:
            with log.open("rb") as notes:
                notes.seek(-min(4000, log.stat().st_size), os.SEEK_END)
                *lines, _ = notes.read().split(b"\n")
            told = [json.loads(line) for line in lines[1:]]
            begun = {note["number"] for note in told if note.get("called", 0) > now}
            return any(note["number"] in begun and note.get("outcome") == "ok" for note in told)

        eventually(lambda: all(map(is_well, self.running)))

    def kill(self, log: Path) -> None:
        with self.running.pop(log) as process:
            process.kill()
        self.ended.append(log)

    def end(self) -> None:
        for log, process in self.running.items():
            with process:
                process.communicate()
            assert process.returncode == 0, log
            self.ended.append(log)

    def told(self) -> list[Operation]:
        """Everything, once they have ended."""
        told = []
        for log in self.ended:
            operations = history.noted(log, log.name)
            if log.name in self._caching:
                history.allowing_for_copies(operations, log.name, int(LEASE * 1e9))
            told += operations
        return told


@contextmanager
def processes(directory: Path, settings: list[dict[str, Any]], seed: int) -> Iterator[Processes]:
    print(f"seed {seed}")  # noqa: T201 - shown with a failure
    started = Processes(directory, settings, seed)
    try:
        for _ in range(PROCESSES):
            started.start()
        yield started
        started.end()
    finally:
        for process in started.running.values():
            with process:
                process.kill()


def caching(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "redis_near_cache_mb": 1}


def ids_of(number: int) -> list[str]:
    # In braces: what a process writes beside one of them lies on the same server of a cluster.
    return [f"{{{number}-{each}}}" for each in range(IDS)]


def read_in_the_end(storage: SyncRedisKVStorage, ids: list[str]) -> list[Operation]:
    called = time.monotonic_ns()
    values = storage.get_by_ids(ids)
    ended = time.monotonic_ns()
    return [
        Operation(id, history.READ, "the test", called, value, ended, "ok")
        for id, value in zip(ids, values, strict=True)
    ]


def count_of(operations: list[Operation]) -> str:
    kinds = (history.WRITE, history.READ, history.DELETE)
    told = [operation for operation in operations if operation.outcome == "ok"]
    return ", ".join(f"{sum(each.kind == kind for each in told):,} {kind}s" for kind in kinds)


def check(row: Row, histories: int, operations: list[Operation]) -> None:
    wrong = history.contradictions(operations)
    unknown = sum(each.outcome in {"unknown", "cancelled"} for each in operations)
    row.saw("told", count_of(operations))
    row.saw("unknown outcomes", unknown)
    assert not wrong, "\n".join(wrong)
    row.none("histories without an order", len(wrong), of=histories)


class Faults:
    """What may go wrong between eight processes and one server; every second has the proxy."""

    def __init__(
        self, server: RedisServer, proxy: Proxy, running: Processes, chance: random.Random
    ) -> None:
        self._server, self._proxy, self._processes = server, proxy, running
        self._chance = chance
        self.kinds = [
            server.restart,
            proxy.deafen,
            self.stalled_server,
            self.held_replies,
            self.lost_replies,
            self.suspended,
            self.suspended_with_a_reply_on_its_way,
            self.killed,
        ]

    def _pause(self, longest: float = 0.4) -> None:
        time.sleep(self._chance.uniform(0.05, longest))

    def stalled_server(self) -> None:
        self._server.pause()
        self._pause()
        self._server.resume()

    def held_replies(self) -> None:
        self._proxy.hold = frozenset({"SET"})
        self._pause()
        self._proxy.hold = frozenset()

    def lost_replies(self) -> None:
        self._proxy.cut_chance = 0.1
        self._pause()
        self._proxy.cut_chance = 0.0

    def suspended(self) -> None:
        some = self._chance.sample(list(self._processes.running.values()), 3)
        for process in some:
            process.send_signal(signal.SIGSTOP)
        self._pause(2 * LEASE)  # longer than a copy is served for, or not
        for process in some:
            process.send_signal(signal.SIGCONT)

    def suspended_with_a_reply_on_its_way(self) -> None:
        self._proxy.hold = frozenset({"SET"})
        self._pause(0.1)
        releasing = threading.Timer(0.05, setattr, (self._proxy, "hold", frozenset()))
        releasing.start()
        self.suspended()
        releasing.join()

    def killed(self) -> None:
        self._processes.kill(self._chance.choice(list(self._processes.running)))
        self._processes.start()


@pytest.mark.row(50)
def test_what_eight_processes_are_told_over_faults_of_one_server_has_an_order(
    row: Row, tmp_path: Path
) -> None:
    histories = row.pick(quick=3, full=80)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    last: list[Operation] = []
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(appendonly="yes", appendfsync="always"))
        proxy = stack.enter_context(Proxy(server.port))
        plain = [{"redis_url": server.url}, {"redis_url": proxy.url}]
        running = stack.enter_context(processes(tmp_path, [*plain, *map(caching, plain)], seed))
        reader = stack.enter_context(SyncRedisKVStorage("full_docs", plain[0]))
        kinds = Faults(server, proxy, running, chance).kinds
        for number in range(histories):
            running.go_on_with(ids_of(number))
            # Each kind in its turn, and two more.
            for fault in [kinds[number % len(kinds)], *chance.sample(kinds, 2)]:
                fault()
            running.wait_for_each()
            last += read_in_the_end(reader, ids_of(number))
    check(row, histories, running.told() + last)


def drop_what_a_dead_server_may_have_told(
    operations: list[Operation], deaths: dict[str, tuple[int, int]]
) -> None:
    """Marks the reads whose value the server that died may have taken along."""
    for operation in operations:
        began, dead = deaths.get(operation.id, (0, 0))
        kept = operation.proven is not None and operation.proven < began
        if operation.kind == history.READ and operation.called < dead and not kept:
            operation.outcome = "unknown"


def over_failovers(
    row: Row,
    directory: Path,
    settings: dict[str, Any],
    histories: int,
    fail_over: Callable[[list[str]], tuple[int, int]],
) -> None:
    """Has what is told checked over so many failovers, of which the function says when one was."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    deaths: dict[str, tuple[int, int]] = {}
    last: list[Operation] = []
    durable = settings | {"redis_durability": "replicas:1", "redis_durability_timeout": 1.0}
    # With sentinels there is no near cache.
    various = [durable, caching(durable)] if "redis_cluster" in settings else [durable]
    with ExitStack() as stack:
        running = stack.enter_context(processes(directory, various, seed))
        reader = stack.enter_context(SyncRedisKVStorage("full_docs", settings))
        for number in range(histories):
            ids = ids_of(number)
            running.go_on_with(ids)
            suspended = chance.sample(list(running.running.values()), 2)
            for process in suspended:
                process.send_signal(signal.SIGSTOP)
            deaths |= dict.fromkeys(ids, fail_over(ids))
            for process in suspended:
                process.send_signal(signal.SIGCONT)
            running.wait_for_each()
            last += read_in_the_end(reader, ids)
    operations = running.told() + last
    drop_what_a_dead_server_may_have_told(operations, deaths)
    check(row, histories, operations)


def killed(server: RedisServer) -> tuple[int, int]:
    """Before a server was killed, and after."""
    began = time.monotonic_ns()
    server.kill()
    return began, time.monotonic_ns()


@pytest.mark.exhaustive
@pytest.mark.row(50)
def test_what_eight_processes_are_told_over_failovers_of_sentinels_has_an_order(
    row: Row, tmp_path: Path
) -> None:
    with Sentinels(down_after=2.0) as sentinels:

        def fail_over(_: list[str]) -> tuple[int, int]:
            master = sentinels.master
            death = killed(master)
            eventually(lambda: sentinels.master is not master)
            master.start()
            eventually(lambda: sentinels.is_whole)
            return death

        over_failovers(
            row, tmp_path, sentinels.settings, row.pick(quick=1, full=10), fail_over
        )  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.row(50)
def test_what_eight_processes_are_told_over_failovers_of_a_cluster_has_an_order(
    row: Row, tmp_path: Path
) -> None:
    with RedisCluster() as cluster:

        def fail_over(ids: list[str]) -> tuple[int, int]:
            key = f"nano_graphrag:full_docs:{ids[0]}"
            primary = cluster.primary_of(key)
            replica = cluster.replica_of(primary)
            death = killed(primary)
            eventually(lambda: replica in cluster.primaries())
            primary.start()
            eventually(cluster.is_whole)
            return death

        settings = {"redis_url": cluster.url, "redis_cluster": True}
        over_failovers(row, tmp_path, settings, row.pick(quick=1, full=10), fail_over)


@pytest.mark.row(50)
@pytest.mark.parametrize("retries", [0, 2])
def test_without_retries_no_write_comes_back_and_with_them_the_checker_sees_it(
    row: Row, retries: int
) -> None:
    """The limit that docs/errors.md names: a write whose answer was lost arrives twice."""
    told: list[Operation] = []
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        proxy = stack.enter_context(Proxy(server.port))
        settings = SETTINGS | {"redis_max_retries": retries}
        opened = [
            SyncRedisKVStorage("full_docs", {"redis_url": url, **settings})
            for url in (proxy.url, server.url)
        ]
        a, b = map(stack.enter_context, opened)
        a.get_by_id("id")  # it is connected

        def write(storage: SyncRedisKVStorage, process: str, value: int) -> None:
            operation = Operation(
                "id", history.WRITE, process, time.monotonic_ns(), value
            )  # fmt: skip
            told.append(operation)
            try:
                storage.upsert({"id": value})
            except ConnectionError:
                return
            operation.ended, operation.outcome = time.monotonic_ns(), "ok"

        # What is written arrives, and is not answered. Without retries, a PING goes before it.
        proxy.silent_after = 0 if retries else 1
        writer = threading.Thread(target=write, args=(a, "a", 1))
        writer.start()
        eventually(lambda: b.get_by_id("id") == 1)
        told += read_in_the_end(b, ["id"])
        write(b, "b", 2)
        told += read_in_the_end(b, ["id"])
        proxy.silent_after = None
        writer.join()
        told += read_in_the_end(b, ["id"])
    wrong = history.contradictions(told)
    row.saw(f"write come back, {retries} retries", len(wrong))
    assert len(wrong) == (1 if retries else 0), wrong
