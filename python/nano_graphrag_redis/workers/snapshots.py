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
from typing import Any, Final, Literal, cast

from nano_graphrag_redis import _core
from nano_graphrag_redis.config.namespaces import LLM_CACHE
from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.shapes import ProcessMetrics, ServiceMetrics, WorkerCount
from nano_graphrag_redis.threads import started

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

SAMPLE_EVERY: Final = 60.0
"""Seconds between two background samples of the servers in use."""

_GONE: Final = "gone.json"
"""The sum of the processes whose files were folded into one."""

Days = dict[str, dict[str, int]]
"""Reads of the LLM cache, ``hits`` and ``misses``, by day in UTC (``2026-11-28``)."""


class _Writer:
    """This process's part in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pid = os.getpid()
        self.path = self._new_path()
        self.ended = threading.Event()
        self._days: Days = {}
        self._written: ProcessMetrics | None = None
        self._folded: ProcessMetrics | None = None
        self._read_before = Counter[str]()
        self._writing = threading.Lock()
        # Without one it is written at the end alone.
        self._thread = started(self._go_on, "nano-graphrag-redis-metrics")

    def _new_path(self) -> Path:
        return self.directory / f"{self.pid}-{time.time_ns():x}.json"

    def end(self) -> None:
        """Writes once more, as a process that is leaving, and ends the thread."""
        self.ended.set()
        self.write(last=True)
        if self._thread is not None:
            self._thread.join()

    def _go_on(self) -> None:
        while True:
            self.write()
            if self.ended.wait(WRITE_EVERY):
                return

    def write(self, *, last: bool = False) -> None:
        """Writes what is counted now.

        A directory that will not do costs nobody a call, nor do threads or memory that are refused.
        """
        with self._writing, contextlib.suppress(StorageError, MemoryError):
            # Nothing follows the farewell, or the process would count as alive.
            if last or not self.ended.is_set():
                try:
                    self._write(last=last)
                except OSError as error:
                    warn_once(
                        f"REDIS_METRICS_DIR={visible(self.directory)}: the counters of this "
                        f"process cannot be written there: {error.strerror}"
                    )

    def _write(self, *, last: bool) -> None:
        snapshot = _core.metrics(sample_every=SAMPLE_EVERY)
        worker = this_worker(snapshot)
        if worker is None:
            return
        summed = (self.directory / _GONE).exists() and not self.path.exists()
        if self._written is not None and summed:
            # A reader took this process for gone, as after an hour in which the machine slept, and
            # has added what it had written to the sum, under the name of the file.
            self._folded, self._days = self._written, {}
            self.path = self._new_path()
        self._count_today(snapshot)
        told = {
            "format": FORMAT,
            "written": time.time(),
            "days": self._days,
            "ended": last,
            "worker": worker,
            "snapshot": snapshot if self._folded is None else _since(self._folded, snapshot),
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        replace(self.path, told)
        self._written = snapshot

    def _count_today(self, snapshot: ProcessMetrics) -> None:
        """Adds what was read of the LLM cache since the last write to the day's counts."""
        of_cache = snapshot["namespaces"].get(LLM_CACHE)
        counts = of_cache["counts"] if of_cache else {}
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


def merged(directory: Path, passed_over: list[str] | None = None) -> ServiceMetrics:
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
    lines = [f"{visible(directory / name)}: {why}" for name, why in sorted(files.refused.items())]
    if passed_over is not None:
        passed_over += [f"passed over {line}" for line in lines]
    else:
        for line in lines:
            warn_once(f"passed over among the counters: {line}")
    return {**total, "workers": counted(live_workers), "days": days}


def workers(directory: Path) -> list[WorkerCount]:
    """The live workers alone, as in ``merged``; changes nothing in ``directory``.

    Raises:
        OSError: There is no such directory, or it may not be read.
    """
    files = (told for _, told in _Files(directory))
    return counted(told["worker"] for told in files if _lives(told) and "worker" in told)


def counted(workers: Iterable[Mapping[str, str]]) -> list[WorkerCount]:
    """Workers of one backend and one hash seed, with their ``count``."""
    counts = Counter((worker["backend"], worker["hash_seed"]) for worker in workers)
    return [
        {"backend": backend, "hash_seed": seed, "count": count}
        for (backend, seed), count in sorted(counts.items())
    ]


def _lives(told: Mapping[str, Any]) -> bool:
    # One that says it wrote in the future did so before the clock was set back.
    return not told["ended"] and abs(time.time() - float(told["written"])) < STALE_AFTER


def empty() -> ProcessMetrics:
    """A snapshot of nothing."""
    return {"bounds": [], "namespaces": {}, "servers": {}}


def add(total: ProcessMetrics, more: ProcessMetrics, *, live: bool) -> None:
    """Adds ``more`` to ``total``: counters always, what is open now of a ``live`` process only."""
    if more["bounds"]:
        total["bounds"] = more["bounds"]
    parts: tuple[Literal["namespaces", "servers"], ...] = ("namespaces", "servers")
    for part in parts:
        # Both are added up alike, by the names that they have.
        sums = cast("dict[str, dict[str, Any]]", total[part])
        for name, told in more[part].items():
            _add(sums.setdefault(name, {}), told, live=live)


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


def _since(before: Any, now: Any) -> Any:
    """A snapshot without what was counted before; what is open now stays."""
    if isinstance(now, Mapping):
        kept = ("sets", "bounds")
        return {
            name: _since(before[name], value) if name in before and name not in kept else value
            for name, value in now.items()
        }
    if isinstance(now, list):
        return [one - other for one, other in zip(now, before, strict=True)]
    return now - before


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
            if name not in folded and (told["ended"] or abs(now - told["written"]) > FOLD_AFTER)
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

    def gone(self) -> tuple[ProcessMetrics, list[str], Days]:
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
