"""What the writers of a test were told, held against what the server has in the end.

Each id has one writer, who numbers what it writes. The server may hold what the last confirmed
operation left, or what any later one left whose outcome nobody knows; nothing else.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from nano_graphrag_redis.exceptions import CircuitOpenError, StorageUnavailableError

CONFIRMED, FAILED, UNKNOWN = "confirmed", "failed", "unknown"


@dataclass
class Operation:
    """One write or delete of one id.

    Attributes:
        id: What it is about.
        sequence: Its number among those of the id, from 1 on; what a write writes.
        deletes: Whether it leaves nothing.
        outcome: What the caller was told. ``failed`` means that nothing was changed.
        was_there: What a confirmed delete said of the id.
    """

    id: str
    sequence: int
    deletes: bool = False
    outcome: str = UNKNOWN
    was_there: bool | None = None

    @property
    def leaves(self) -> int | None:
        """The id's value after it."""
        return None if self.deletes else self.sequence


@dataclass
class _Id:
    """What is known of one id: its operations so far, and what the server may hold."""

    operations: int = 0
    possible: set[int | None] = field(default_factory=lambda: {None})


@dataclass
class Checker:
    """The operations of a test, of any number of threads; takes no more memory for more of them."""

    _known: dict[str, _Id] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _contradictions: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def write(self, id: str) -> Iterator[Operation]:
        """A write of ``operation.sequence``."""
        with self._told(id, deletes=False) as operation:
            yield operation

    @contextmanager
    def delete(self, id: str) -> Iterator[Operation]:
        """A delete, whose answer is to be put into ``operation.was_there``."""
        with self._told(id, deletes=True) as operation:
            yield operation

    @contextmanager
    def _told(self, id: str, *, deletes: bool) -> Iterator[Operation]:
        """Confirmed if the body ends; refused before it was sent, failed; else unknown.

        Errors that tell of no outage are raised.
        """
        with self._lock:
            mine = self._known.setdefault(id, _Id())
        mine.operations += 1
        operation = Operation(id, mine.operations, deletes)
        before = set(mine.possible)
        mine.possible.add(operation.leaves)
        try:
            yield operation
            operation.outcome = CONFIRMED
        except CircuitOpenError:
            operation.outcome = FAILED
        except StorageUnavailableError:
            pass
        finally:
            with self._lock:
                self._counts[operation.outcome] += 1
                self._contradictions += _contradictions(operation, before)
            if operation.outcome == FAILED:
                mine.possible = before
            elif operation.outcome == CONFIRMED:
                mine.possible = {operation.leaves}

    def count(self, *outcomes: str) -> int:
        """How many operations had one of these outcomes; without any, all."""
        return sum(self._counts[outcome] for outcome in outcomes or self._counts)

    @property
    def ids(self) -> list[str]:
        """Every id there was an operation of."""
        return list(self._known)

    def wrong(self, values: Mapping[str, int | None]) -> list[str]:
        """What contradicts what the writers were told: a line for each id or delete."""
        return self._contradictions + [
            f"{id}: is {values[id]}, may be {sorted(map(str, mine.possible))}"
            for id, mine in self._known.items()
            if values[id] not in mine.possible
        ]


def _contradictions(operation: Operation, before: set[int | None]) -> list[str]:
    """What a confirmed delete must not have said, given what there may have been before it."""
    if operation.was_there is True and before == {None}:
        return [f"{operation.id}: delete {operation.sequence} found what was not there"]
    if operation.was_there is False and None not in before:
        return [f"{operation.id}: delete {operation.sequence} missed what was there"]
    return []
