"""Combines the counters of several processes, which each writes to a shared directory.

Readers add the files up: counters of all workers, including those that have exited, whose files are
folded into one; gauges only of those that still write.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.typed_dicts import ProcessMetrics, ServiceMetrics

from .counter_files import FORMAT, GONE, CounterFiles, PassedOverError, empty, replace
from .live_workers import counted, is_alive
from .llm_cache_days_kept import HIGHEST, Days, add_days

FOLD_AFTER: Final = 3600.0
"""Seconds without a write after which the file of a process that did not say farewell is folded."""

_LOOKS: Final = 100
"""How often the files are added up anew, at most, because another reader folded some meanwhile."""


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
    files = CounterFiles(directory)
    # Windows has no such locks; its files stay apart.
    with contextlib.suppress(OSError, ImportError, PassedOverError):
        _fold(files)
    for _ in range(_LOOKS):
        before = _version_of_gone(directory)
        total = _sum(files)
        # A file that was folded meanwhile may be neither in the sum of the gone nor in the list.
        if _version_of_gone(directory) == before:
            break
    lines = [f"{visible(directory / name)}: {why}" for name, why in sorted(files.refused.items())]
    if passed_over is not None:
        passed_over += [f"passed over {line}" for line in lines]
    else:
        for line in lines:
            warn_once(f"passed over among the counters: {line}")
    return total


def _version_of_gone(directory: Path) -> tuple[int, int] | None:
    """Another one after each fold."""
    try:
        found = (directory / GONE).lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _sum(files: CounterFiles) -> ServiceMetrics:
    total = empty()
    days: Days = {}
    live_workers: list[Mapping[str, str]] = []
    try:
        gone, names, days = files.gone()
        _add(total, gone, live=False)
    except PassedOverError:
        names = []
    for name, told in files:
        if name not in names:
            live = is_alive(told)
            _add(total, told["snapshot"], live=live)
            add_days(days, told.get("days", {}))
            if live and "worker" in told:
                live_workers.append(told["worker"])
    return {**total, "workers": counted(live_workers), "days": days}


def _fold(files: CounterFiles) -> None:
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
            _add(total, told["snapshot"], live=False)
            add_days(days, told.get("days", {}))
        names = sorted({*done, *(name for name in folded if (directory / name).exists())})
        if done or len(names) != len(folded):
            gone = {"format": FORMAT, "folded": names, "days": days, "snapshot": total}
            replace(directory / GONE, gone)
        for name in names:
            (directory / name).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _add(total: ProcessMetrics, more: ProcessMetrics, *, live: bool) -> None:
    """Adds ``more`` to ``total``: counters always, what is open now of a ``live`` process only."""
    if more["bounds"]:
        total["bounds"] = more["bounds"]
    parts: tuple[Literal["namespaces", "servers"], ...] = ("namespaces", "servers")
    for part in parts:
        # Both are added up alike, by the names that they have.
        sums = cast("dict[str, dict[str, Any]]", total[part])
        for name, told in more[part].items():
            _add_each(sums.setdefault(name, {}), told, live=live)


def _add_each(total: dict[str, Any], more: Mapping[str, Any], *, live: bool) -> None:
    for name, value in more.items():
        if name == "sets":
            total[name] = [*total.get(name, ()), *(value if live else ())]
        elif isinstance(value, Mapping):
            _add_each(total.setdefault(name, {}), value, live=live)
        elif isinstance(value, list):
            before = total.get(name) or [0] * len(value)
            total[name] = [
                min(one + other, HIGHEST) for one, other in zip(before, value, strict=True)
            ]
        else:
            total[name] = min(total.get(name, 0) + value, HIGHEST)
