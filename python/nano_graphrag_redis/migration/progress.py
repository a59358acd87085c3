"""The steps of an operation on files: they are gone through here, and each tells its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from nano_graphrag_redis._core import FileWork


@dataclass(frozen=True)
class Progress:
    """The progress on one namespace.

    Attributes:
        namespace: The namespace.
        step: ``check`` (validating the file), ``copy``, ``list`` (collecting ids), ``write``
            (writing a file), ``read`` or ``compare``.
        done: How much of the step is done, in ``unit``.
        total: The size of the step; None if it is not known yet.
        unit: What ``done`` and ``total`` count.
    """

    namespace: str
    step: Literal["check", "copy", "list", "write", "read", "compare"]
    done: int
    total: int | None
    unit: Literal["bytes", "ids"]


Report = Callable[[Progress], None]
"""Called after each step; an exception that it raises stops the operation."""


def run(work: FileWork, namespace: str, progress: Report | None) -> dict[str, Any]:
    """Runs all steps of an operation and returns its result."""
    while step := work.step():
        if progress is not None:
            name, done, total, unit = step
            progress(
                Progress(
                    namespace=namespace,
                    step=cast("Any", name),
                    done=done,
                    total=total,
                    unit=cast("Literal['bytes', 'ids']", unit),
                )
            )
    return work.result
