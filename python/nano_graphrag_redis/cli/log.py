"""What the package logs while a command runs, as Python shows it on stderr: each line once.

A storage looks at its server when its connections are first used. A command opens several, one
after the other and by settings of their own, and each would tell the same again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOGGER = logging.getLogger("nano_graphrag_redis")


@contextmanager
def told_once() -> Iterator[None]:
    """Leaves out what was said before."""
    told: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        known = line in told
        told.add(line)
        return not known

    with _filtered(is_new):
        yield


@contextmanager
def untold(event: str) -> Iterator[None]:
    """Leaves out the lines about an event, which the command itself tells of."""
    with _filtered(lambda record: getattr(record, "event", None) != event):
        yield


@contextmanager
def _filtered(wanted: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    _LOGGER.addFilter(wanted)
    try:
        yield
    finally:
        _LOGGER.removeFilter(wanted)
