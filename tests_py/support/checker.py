"""What the writers of a test were told, held against what the server has in the end.

Each id has one writer, who numbers what it writes. The server may hold what the last confirmed
operation left, or what any later one left whose outcome nobody knows; nothing else.
"""

from __future__ import annotations

import threading
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
class Checker:
    """The operations of a test, in the order of each id's writer. Of any number of threads."""

    _operations: dict[str, list[Operation]] = field(default_factory=dict)
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
            mine = self._operations.setdefault(id, [])
        operation = Operation(id, len(mine) + 1, deletes)
        mine.append(operation)
        try:
            yield operation
        except CircuitOpenError:
            operation.outcome = FAILED
            return
        except StorageUnavailableError:
            return
        operation.outcome = CONFIRMED

    def count(self, *outcomes: str) -> int:
        """How many operations had one of these outcomes; without any, all."""
        every = (operation for mine in self._operations.values() for operation in mine)
        return sum(not outcomes or operation.outcome in outcomes for operation in every)

    @property
    def ids(self) -> list[str]:
        """Every id there was an operation of."""
        return list(self._operations)

    def wrong(self, values: Mapping[str, int | None]) -> list[str]:
        """What contradicts what the writers were told: a line for each id or delete."""
        lines = []
        for id, mine in self._operations.items():
            possible: set[int | None] = {None}
            for operation in mine:
                if operation.outcome == CONFIRMED:
                    if operation.was_there is True and possible == {None}:
                        lines.append(f"{id}: delete {operation.sequence} found what was not there")
                    if operation.was_there is False and None not in possible:
                        lines.append(f"{id}: delete {operation.sequence} missed what was there")
                    possible = {operation.leaves}
                elif operation.outcome == UNKNOWN:
                    possible.add(operation.leaves)
            if values[id] not in possible:
                lines.append(f"{id}: is {values[id]}, may be {sorted(map(str, possible))}")
        return lines
