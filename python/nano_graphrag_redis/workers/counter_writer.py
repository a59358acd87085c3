"""Writes the counters of this process to a shared directory, every few seconds and at exit.

One small file is replaced as a whole each time.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from nano_graphrag_redis import _core
from nano_graphrag_redis.config.namespaces import LLM_CACHE
from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.process_exit import at_exit
from nano_graphrag_redis.threads import started
from nano_graphrag_redis.typed_dicts import ProcessMetrics

from .backend_and_hash_seed import this_worker
from .counter_files import FORMAT, GONE, replace
from .llm_cache_days_kept import Days, add_days

WRITE_EVERY: Final = 5.0
"""Seconds between two writes of a process."""

SAMPLE_EVERY: Final = 60.0
"""Seconds between two background samples of the servers in use."""


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
        summed = (self.directory / GONE).exists() and not self.path.exists()
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
            "snapshot": snapshot if self._folded is None else _without(self._folded, snapshot),
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


def stop_writing() -> None:
    """Stops writing, as at exit; what this process has counted stays in the sum."""
    global _writer
    with _starting:
        writer, _writer = _writer, None
    if writer is not None and writer.pid == os.getpid():
        writer.end()


at_exit(stop_writing)


def _begin_anew_in_child() -> None:
    """A child has its own counters, and none of its parent's threads."""
    global _writer, _starting
    _starting = threading.Lock()
    if _writer is not None:
        _writer = _Writer(_writer.directory)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)


def _without(before: Any, now: Any) -> Any:
    """A snapshot without what was counted before; what is open now stays."""
    if isinstance(now, Mapping):
        kept = ("sets", "bounds")
        return {
            name: _without(before[name], value) if name in before and name not in kept else value
            for name, value in now.items()
        }
    if isinstance(now, list):
        return [one - other for one, other in zip(now, before, strict=True)]
    return now - before
