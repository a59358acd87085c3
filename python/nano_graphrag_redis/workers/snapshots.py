"""Combines the counters of several processes, which each writes to a shared directory.

A worker atomically replaces one small file every few seconds, and once more at exit. Readers add
the files up: counters of all workers, including those that have exited; gauges only of those that
still write.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from nano_graphrag_redis import _core
from nano_graphrag_redis.config.namespaces import LLM_CACHE
from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.printable import visible

from .identity import this_worker
from .snapshot_files import FORMAT, PassedOverError, read, replace

WRITE_EVERY: Final = 5.0
"""Seconds between two writes of a process."""

STALE_AFTER: Final = 3 * WRITE_EVERY
"""Seconds without a write after which a process counts as gone."""

FOLD_AFTER: Final = 3600.0
"""Seconds without a write after which the file of a process that did not say farewell is folded."""

DAYS_KEPT: Final = 62
"""Days of which the reads of the LLM cache are kept apart."""

CENSUS_EVERY: Final = 60.0
"""Seconds between two looks at what lies on the servers, in the background."""

_GONE: Final = "gone.json"
"""The sum of the processes whose files were folded into one."""

Days = dict[str, dict[str, int]]
"""Reads of the LLM cache, ``hits`` and ``misses``, by day in UTC (``2026-11-28``)."""

Snapshot = dict[str, Any]
"""What ``_core.metrics()`` gives; or the sum of several, with ``workers`` and ``days``."""


class _Writer:
    """This process's part in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pid = os.getpid()
        self.path = directory / f"{self.pid}-{time.time_ns():x}.json"
        self.ended = threading.Event()
        self._days: Days = {}
        self._read_before = Counter[str]()
        self._writing = threading.Lock()
        self._thread = threading.Thread(
            target=self._go_on, name="nano-graphrag-redis-metrics", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Writes once more, as a process that is leaving, and ends the thread."""
        self.ended.set()
        self.write(last=True)
        self._thread.join()

    def _go_on(self) -> None:
        while True:
            self.write()
            if self.ended.wait(WRITE_EVERY):
                return

    def write(self, *, last: bool = False) -> None:
        """Writes what is counted now; a directory that will not do costs nobody a call."""
        with self._writing:
            # Nothing follows the farewell, or the process would count as alive.
            if last or not self.ended.is_set():
                self._write(last=last)

    def _write(self, *, last: bool) -> None:
        snapshot = _core.metrics(census_every=CENSUS_EVERY)
        worker = this_worker(snapshot)
        if worker is None:
            return
        self._count_today(snapshot)
        told = {
            "format": FORMAT,
            "written": time.time(),
            "days": self._days,
            "ended": last,
            "worker": worker,
            "snapshot": snapshot,
        }
        with contextlib.suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
            replace(self.path, told)

    def _count_today(self, snapshot: Snapshot) -> None:
        """Adds what was read of the LLM cache since the last write to the day's counts."""
        counts = snapshot["namespaces"].get(LLM_CACHE, {}).get("counts", {})
        read = Counter({name: counts.get(name, 0) for name in ("hits", "misses")})
        if more := read - self._read_before:
            today = datetime.now(timezone.utc).date().isoformat()
            add_days(self._days, {today: more})
        self._read_before = read


_writer: _Writer | None = None
_starting = threading.Lock()


def keep_writing(directory: Path) -> None:
    """Makes this process, and those forked from it, write their counters to ``directory``.

    The first directory wins; further calls change nothing.
    """
    global _writer
    with _starting:
        if _writer is None:
            _writer = _Writer(directory)


@atexit.register
def stop_writing() -> None:
    """Stops writing, as at exit; what this process has counted stays in the sum."""
    global _writer
    with _starting:
        writer, _writer = _writer, None
    if writer is not None and writer.pid == os.getpid():
        writer.end()


def _begin_anew_in_child() -> None:
    """A child has its own counters, and none of its parent's threads."""
    global _writer, _starting
    _starting = threading.Lock()
    if _writer is not None:
        _writer = _Writer(_writer.directory)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)


def merged(directory: Path, passed_over: list[str] | None = None) -> Snapshot:
    """The sum of all processes that write, or wrote, to ``directory``.

    Also folds the files of exited processes into one, if this user may write. Skips files that hold
    no counters.

    Args:
        directory: The shared directory.
        passed_over: Receives a line for each skipped file; the lines are logged if None.

    Raises:
        OSError: There is no such directory, or it cannot be read.
    """
    files = _Files(directory)
    # Windows has no such locks; its files stay apart.
    with contextlib.suppress(OSError, ImportError, PassedOverError):
        _fold(files)
    total = empty()
    days: Days = {}
    live_workers: list[Mapping[str, str]] = []
    try:
        gone, names, days = files.gone()
        add(total, gone, live=False)
    except PassedOverError:
        names = []
    for name, told in files:
        if name not in names:
            live = _lives(told)
            add(total, told["snapshot"], live=live)
            add_days(days, told.get("days", {}))
            if live and "worker" in told:
                live_workers.append(told["worker"])
    total["workers"] = counted(live_workers)
    total["days"] = days
    lines = [f"{visible(directory / name)}: {why}" for name, why in sorted(files.refused.items())]
    if passed_over is not None:
        passed_over += [f"passed over {line}" for line in lines]
    else:
        for line in lines:
            warn_once(f"passed over among the counters: {line}")
    return total


def workers(directory: Path) -> list[Snapshot]:
    """The live workers alone, as in ``merged``; changes nothing in ``directory``.

    Raises:
        OSError: There is no such directory, or it may not be read.
    """
    files = (told for _, told in _Files(directory))
    return counted(told["worker"] for told in files if _lives(told) and "worker" in told)


def counted(workers: Iterable[Mapping[str, str]]) -> list[Snapshot]:
    """Workers of one backend and one hash seed, with their ``count``."""
    counts = Counter((worker["backend"], worker["hash_seed"]) for worker in workers)
    return [
        {"backend": backend, "hash_seed": seed, "count": count}
        for (backend, seed), count in sorted(counts.items())
    ]


def _lives(told: Mapping[str, Any]) -> bool:
    return not told["ended"] and time.time() - float(told["written"]) < STALE_AFTER


def empty() -> Snapshot:
    """A snapshot of nothing."""
    return {"bounds": [], "namespaces": {}, "servers": {}}


def add(total: Snapshot, more: Mapping[str, Any], *, live: bool) -> None:
    """Adds ``more`` to ``total``: counters always, what is open now of a ``live`` process only."""
    if more["bounds"]:
        total["bounds"] = more["bounds"]
    for part in ("namespaces", "servers"):
        for name, told in more[part].items():
            _add(total[part].setdefault(name, {}), told, live=live)


def add_days(days: Days, more: Mapping[str, Mapping[str, int]]) -> None:
    """Adds ``more`` to ``days``, of which the newest are kept."""
    for day, counts in more.items():
        of_day = days.setdefault(day, {})
        for name, count in counts.items():
            of_day[name] = of_day.get(name, 0) + count
    for day in sorted(days)[:-DAYS_KEPT]:
        del days[day]


def _add(total: dict[str, Any], more: Mapping[str, Any], *, live: bool) -> None:
    for name, value in more.items():
        if name == "sets":
            total[name] = [*total.get(name, ()), *(value if live else ())]
        elif isinstance(value, Mapping):
            _add(total.setdefault(name, {}), value, live=live)
        elif isinstance(value, list):
            before = total.get(name) or [0] * len(value)
            total[name] = [one + other for one, other in zip(before, value, strict=True)]
        else:
            total[name] = total.get(name, 0) + value


def _fold(files: _Files) -> None:
    """Adds the files of processes that are gone to one file, and removes them."""
    import fcntl

    directory = files.directory
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    lock = os.open(directory / "fold.lock", flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        total, folded, days = files.gone()
        now = time.time()
        # Named in the sum before they are removed: whoever stops in between counts none twice.
        done = {
            name: told
            for name, told in files
            if name not in folded and (told["ended"] or now - told["written"] > FOLD_AFTER)
        }
        for told in done.values():
            add(total, told["snapshot"], live=False)
            add_days(days, told.get("days", {}))
        names = sorted({*done, *(name for name in folded if (directory / name).exists())})
        if done or len(names) != len(folded):
            gone = {"format": FORMAT, "folded": names, "days": days, "snapshot": total}
            replace(directory / _GONE, gone)
        for name in names:
            (directory / name).unlink(missing_ok=True)
    finally:
        os.close(lock)


class _Files:
    """The files in a directory of counters.

    Attributes:
        directory: The directory.
        refused: Those that were passed over, and why.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.refused: dict[str, str] = {}
        self._bounds: list[float] = _core.metrics()["bounds"]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for path in sorted(self.directory.iterdir()):
            if path.suffix != ".json" or path.name == _GONE:
                continue
            with contextlib.suppress(PassedOverError):
                told = self._read(path.name, "written", "ended")
                if told is not None:
                    yield path.name, told

    def gone(self) -> tuple[Snapshot, list[str], Days]:
        """The sum of what was folded, the files in it that may not be removed yet, and the days.

        Raises:
            PassedOverError: It cannot be read; it is left as it is, and nothing more is folded.
        """
        told = self._read(_GONE, "folded")
        if told is None:
            return empty(), [], {}
        return told["snapshot"], told["folded"], told.get("days", {})

    def _read(self, name: str, *parts: str) -> Any:
        try:
            return read(self.directory / name, self._bounds, parts)
        except PassedOverError as why:
            self.refused[name] = str(why)
            raise
