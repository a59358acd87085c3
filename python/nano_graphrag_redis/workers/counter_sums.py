"""Sums of what processes count: counters of all of them, gauges of those alone that live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from nano_graphrag_redis.shapes import ProcessMetrics

DAYS_KEPT: Final = 62
"""Days of which the reads of the LLM cache are kept apart."""

Days = dict[str, dict[str, int]]
"""Reads of the LLM cache, ``hits`` and ``misses``, by day in UTC (``2026-11-28``)."""


def empty() -> ProcessMetrics:
    """A snapshot of nothing."""
    return {"bounds": [], "namespaces": {}, "servers": {}}


def add(total: ProcessMetrics, more: ProcessMetrics, *, live: bool) -> None:
    """Adds ``more`` to ``total``: counters always, what is open now of a ``live`` process only."""
    if more["bounds"]:
        total["bounds"] = more["bounds"]
    parts: tuple[Literal["namespaces", "servers"], ...] = ("namespaces", "servers")
    for part in parts:
        # Both are added up alike, by the names that they have.
        sums = cast("dict[str, dict[str, Any]]", total[part])
        for name, told in more[part].items():
            _add(sums.setdefault(name, {}), told, live=live)


def add_days(days: Days, more: Mapping[str, Mapping[str, int]]) -> None:
    """Adds ``more`` to ``days``, of which the newest are kept."""
    for day, counts in more.items():
        of_day = days.setdefault(day, {})
        for name, count in counts.items():
            of_day[name] = of_day.get(name, 0) + count
    for day in sorted(days)[:-DAYS_KEPT]:
        del days[day]


def _add(total: dict[str, Any], more: Mapping[str, Any], *, live: bool) -> None:
    for name, value in more.items():
        if name == "sets":
            total[name] = [*total.get(name, ()), *(value if live else ())]
        elif isinstance(value, Mapping):
            _add(total.setdefault(name, {}), value, live=live)
        elif isinstance(value, list):
            before = total.get(name) or [0] * len(value)
            total[name] = [one + other for one, other in zip(before, value, strict=True)]
        else:
            total[name] = total.get(name, 0) + value


def without(before: Any, now: Any) -> Any:
    """A snapshot without what was counted before; what is open now stays."""
    if isinstance(now, Mapping):
        kept = ("sets", "bounds")
        return {
            name: without(before[name], value) if name in before and name not in kept else value
            for name, value in now.items()
        }
    if isinstance(now, list):
        return [one - other for one, other in zip(now, before, strict=True)]
    return now - before
