"""Fails a test that leaves sockets, threads or processes behind, and ends those processes.

Sockets are those that Python code made: what the core opens is watched by tests of its own. What a
fixture of a module or a session makes belongs to no test. The last test of a file fails if the core
still has connections then: a storage of the next file would share them, and what they have seen.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from nano_graphrag_redis import _core

GRACE = 20.0
"""Seconds in which what a test has ended has to be gone."""

MARK = "TESTS_OF"
"""Environment variable by which processes are known that have lost their parent."""

_SPAWNING = {"os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"}


@dataclass(frozen=True)
class Resources:
    """What is open.

    Attributes:
        sockets: Their numbers, in the order in which they were made.
        threads: Python's threads.
        processes: Children, and processes that these have left behind.
    """

    sockets: frozenset[int] = frozenset()
    threads: frozenset[threading.Thread] = frozenset()
    processes: frozenset[int] = frozenset()

    def __or__(self, other: Resources) -> Resources:
        return Resources(
            self.sockets | other.sockets,
            self.threads | other.threads,
            self.processes | other.processes,
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.sockets - other.sockets,
            self.threads - other.threads,
            self.processes - other.processes,
        )

    def __bool__(self) -> bool:
        return bool(self.sockets or self.threads or self.processes)


class Leaks:
    """The plugin; a process has one.

    Args:
        grace: How long to wait for what a test has left.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._number = itertools.count()
        self._sockets: dict[int, weakref.ref[socket.socket]] = {}
        self._spawned = self._failed = False
        self._before = self._shared = Resources()
        self._connected_before: frozenset[str] = frozenset()
        os.environ[MARK] = str(os.getpid())
        sys.addaudithook(self._audit)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        self._spawned = self._failed = False
        self._before = self._open()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        before = self._open()
        try:
            return (yield)
        finally:
            self._shared |= self._open() - before

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, Any, Any]:
        try:
            return (yield)
        finally:
            left = self._left()
            said = list(self._describe(left))
            _end(left.processes)
            if nextitem is None or nextitem.path != item.path:
                said.extend(f"connections to {server}" for server in self._connected())
            # The traceback of a test that failed holds on to what it had open.
            if said and not self._failed:
                pytest.fail(f"left behind: {'; '.join(said)}", pytrace=False)

    def _left(self) -> Resources:
        """What the test has left, after some time for what is ending."""
        if not self._more():
            return Resources()
        gc.collect()
        deadline = time.monotonic() + self._grace
        while (more := self._more()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return more

    def _connected(self) -> list[str]:
        """The servers to which a file has left connections, once those that end have ended."""
        if left := _servers_in_use() - self._connected_before:
            gc.collect()  # the host closes no storage
            deadline = time.monotonic() + self._grace
            while left and time.monotonic() < deadline:
                time.sleep(0.01)
                left &= _servers_in_use()
        self._connected_before |= left
        return sorted(left)

    def _more(self) -> Resources:
        return self._open() - self._before - self._shared

    def _open(self) -> Resources:
        for number, reference in list(self._sockets.items()):
            known = reference()
            if known is None or known.fileno() < 0:
                del self._sockets[number]
        # A look at every process of the machine, so only where there may be a new one.
        orphans = _started_by_us() if self._spawned else self._before.processes
        threads = frozenset(threading.enumerate())
        return Resources(frozenset(self._sockets), threads, _children() | orphans)

    def _describe(self, left: Resources) -> Iterator[str]:
        for number in left.sockets:
            reference = self._sockets.get(number)
            yield f"socket {reference() if reference else ''}"
        for thread in left.threads:
            yield f"thread {thread.name}"
        for pid in left.processes:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                yield f"process {pid} {process.status()} {' '.join(process.cmdline())[:120]}"

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _SPAWNING:
            self._spawned = True
        elif event == "socket.__new__" and isinstance(arguments[0], socket.socket):
            self._sockets[next(self._number)] = weakref.ref(arguments[0])


def _servers_in_use() -> frozenset[str]:
    servers: dict[str, Any] = _core.metrics()["servers"]
    return frozenset(server for server, known in servers.items() if known["sets"])


def _end(processes: frozenset[int]) -> None:
    """Kills processes: the next test is not to meet them."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _children() -> frozenset[int]:
    pids: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            pids.update(map(int, path.read_text().split()))
    return frozenset(pids)


def _started_by_us() -> frozenset[int]:
    """The processes that were started with the mark."""
    mark = f"\0{MARK}={os.getpid()}\0".encode()
    found = set()
    for pid in psutil.pids():
        if pid != os.getpid():
            with suppress(OSError):
                if mark in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(pid)
    return frozenset(found)
