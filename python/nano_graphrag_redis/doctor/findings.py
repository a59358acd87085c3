"""Findings, and what was repaired."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final

EXAMPLES: Final = 10
"""Ids that a finding names; it counts them all."""


class Severity(Enum):
    """The severity of a finding; the values appear in reports."""

    OK = "ok"
    """As it should be: a fact worth knowing."""
    WARNING = "warning"
    """It works, but costs something or is at risk."""
    ERROR = "error"
    """Data is missing, wrong or about to be lost, or the storage does not work."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: The check's name, stable across versions, such as ``eviction-policy``.
        severity: The severity.
        title: The finding in one line.
        why: Why it matters; empty for ``OK``.
        remedy: What to do about it; empty for ``OK``.
        namespace: The namespace concerned, or None.
        ids: Some of the ids concerned, at most ``EXAMPLES``.
        count: How many ids are concerned.
        repairable: Whether ``repair`` fixes it.
    """

    check: str
    severity: Severity
    title: str
    why: str = ""
    remedy: str = ""
    namespace: str | None = None
    ids: tuple[str, ...] = ()
    count: int = 0
    repairable: bool = False


@dataclass(frozen=True)
class Repaired:
    """One repair.

    Attributes:
        check: The check whose finding it fixes.
        title: What was done, in one line.
        namespace: The namespace concerned.
        ids: Some of the ids concerned, at most ``EXAMPLES``.
        count: How many ids are concerned.
    """

    check: str
    title: str
    namespace: str | None = None
    ids: tuple[str, ...] = ()
    count: int = 0


def examples(ids: Collection[str]) -> tuple[str, ...]:
    """The ids that a finding names: the first in alphabetical order, so that reports compare."""
    return tuple(sorted(ids)[:EXAMPLES])
