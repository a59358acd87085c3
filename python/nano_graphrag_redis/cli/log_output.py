"""Shows on stderr what the package logs while a command runs, each line once.

A storage checks its server when its connections are first used. A command opens several storages
with different settings, and each would log the same again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOGGER = logging.getLogger("nano_graphrag_redis")


@contextmanager
def told_once() -> Iterator[None]:
    """Drops lines that were logged before."""
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
    """Drops the lines about an event that the command reports itself."""
    with _filtered(lambda record: getattr(record, "event", None) != event):
        yield


@contextmanager
def _filtered(wanted: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    _LOGGER.addFilter(wanted)
    try:
        yield
    finally:
        _LOGGER.removeFilter(wanted)
