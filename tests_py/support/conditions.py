"""Waiting for conditions, and what the kernel says about this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

DEADLINE = 60.0
"""Seconds in which what a test waits for has to come about."""


# With `[]` for `...`, mypy refuses a lambda that binds a loop's variable as its default.
def eventually(
    condition: Callable[..., bool], within: float = DEADLINE, every: float = 0.01
) -> None:
    """Waits for a condition; one that does not come about within so many seconds is a failure.

    Args:
        condition: Called until it is true.
        within: Seconds.
        every: Seconds between two calls.
    """
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> int:
    """Threads of this process, those unknown to Python included."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("Threads:")[1].split()[0])
