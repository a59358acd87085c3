"""What processes were told of ids, and whether it can have happened one call after the other.

Each id is a register. Times are nanoseconds of the machine's monotonic clock, which all processes
share. The checker is `tools/linearizable`, over the crate `todc-utils`.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHECKER = ROOT / "tools" / "linearizable" / "Cargo.toml"
SEARCH = 60.0
"""Seconds the search may take: too many unknown outcomes would make it endless."""

WRITE, READ, DELETE = "write", "read", "delete"


@dataclass
class Operation:
    """One call on one id.

    Attributes:
        id: What it is about.
        kind: ``write``, ``read`` or ``delete``.
        process: Who called.
        called: When.
        value: What it writes, has read, or said was there before a delete.
        ended: When it returned, failed or was cancelled; None if its process was killed.
        outcome: ``ok``; ``unknown``, then it may take effect at any later time, or never;
            ``refused``, then it has not and never will.
        proven: When a barrier passed after it, if one was waited for.
    """

    id: str
    kind: str
    process: str
    called: int
    value: Any = None
    ended: int | None = None
    outcome: str = "unknown"
    proven: int | None = None

    def line(self) -> str:
        """What the checker reads."""
        answered = self.ended if self.outcome == "ok" else "-"
        value = "-" if self.value is None else json.dumps(self.value)
        return f"{self.id} {self.called} {answered} {self.kind} {value}"


def noted(log: Path, process: str) -> list[Operation]:
    """What a process has noted until it ended or was killed, of which the last line may be torn."""
    operations: dict[int, Operation] = {}
    for line in log.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        note = json.loads(line)
        number = note.pop("number")
        if "called" in note:
            operations[number] = Operation(process=process, **note)
        for name, value in note.items():
            setattr(operations[number], name, value)
    return list(operations.values())


def allowing_for_copies(operations: Iterable[Operation], process: str, lease: int) -> None:
    """Moves the reads of a process with a near cache to when their copies may have been read.

    A copy may be as old as the lease, and not older than what the same process did to the id last.
    """
    changed: defaultdict[str, int] = defaultdict(int)
    for operation in operations:
        if operation.process != process:
            continue
        if operation.kind == READ:
            oldest = max(operation.called - lease, changed[operation.id])
            operation.called = min(operation.called, oldest)
        elif operation.ended is not None and operation.outcome != "cancelled":
            changed[operation.id] = operation.ended + 1


def contradictions(operations: Iterable[Operation]) -> list[str]:
    """The ids whose operations have no order: what was told up to the first that cannot be."""
    of_ids: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.outcome != "refused" and (operation.kind != READ or operation.outcome == "ok"):
            of_ids[operation.id].append(operation)
    lines = [line for each in of_ids.values() for line in _lines(each)]
    told = [line.split() for line in _checked("\n".join(lines)).splitlines()]
    return [_shown(of_ids[id], int(time)) for id, time in told]


def _lines(operations: list[Operation]) -> list[str]:
    """What the checker reads of one id; the fewer unknown operations, the shorter its search.

    An unknown write that nobody has read explains nothing but a delete that found something: both
    are left out, the write and the answer.
    """
    seen = {operation.value for operation in operations if operation.kind == READ}
    unseen = [
        operation
        for operation in operations
        if operation.kind == WRITE and operation.outcome != "ok" and operation.value not in seen
    ]
    first = min((operation.called for operation in unseen), default=None)
    left = [operation for operation in operations if operation not in unseen]
    return [
        replace(operation, value=None).line()
        if operation.kind == DELETE and first is not None and first <= (operation.ended or first)
        else operation.line()
        for operation in left
    ]


def _checked(text: str) -> str:
    target = ROOT / "target" / "linearizable"
    command: list[str | Path] = [
        "cargo",
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--manifest-path",
        CHECKER,
    ]
    done = subprocess.run(
        [*command, "--target-dir", target],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=SEARCH,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _shown(operations: list[Operation], until: int) -> str:
    """What was told of an id, until what cannot be explained; times in ms before that."""
    lines = []
    for operation in sorted(operations, key=lambda operation: operation.called):
        if operation.called <= until:
            began = (operation.called - until) / 1e6
            ended = "" if operation.ended is None else f"{(operation.ended - until) / 1e6:.3f}"
            what = f"{operation.process} {operation.kind} {operation.value} {operation.outcome}"
            lines.append(f"  {began:.3f} .. {ended}: {what}")
    return "\n".join([f"{operations[0].id}:", *lines[-40:]])
