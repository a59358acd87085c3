"""Which processes of a service are alive, by when each wrote its counters, and who they are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from nano_graphrag_redis.typed_dicts import WorkerCount

from .counter_files import CounterFiles
from .counter_writer import WRITE_EVERY

STALE_AFTER: Final = 3 * WRITE_EVERY
"""Seconds without a write after which a process counts as gone."""


def workers(directory: Path) -> list[WorkerCount]:
    """The live workers alone, as in ``merged``; changes nothing in ``directory``.

    Raises:
        OSError: There is no such directory, or it may not be read.
    """
    files = (told for _, told in CounterFiles(directory))
    return counted(told["worker"] for told in files if is_alive(told) and "worker" in told)


def counted(workers: Iterable[Mapping[str, str]]) -> list[WorkerCount]:
    """Workers of one backend and one hash seed, with their ``count``."""
    counts = Counter((worker["backend"], worker["hash_seed"]) for worker in workers)
    return [
        {"backend": backend, "hash_seed": seed, "count": count}
        for (backend, seed), count in sorted(counts.items())
    ]


def is_alive(told: Mapping[str, Any]) -> bool:
    """Whether the process that wrote this file is taken to be there still."""
    # One that says it wrote in the future did so before the clock was set back.
    return not told["ended"] and abs(time.time() - float(told["written"])) < STALE_AFTER
