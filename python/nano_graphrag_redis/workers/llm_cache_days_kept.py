"""How often the LLM cache was read, hits and misses, on each of the days that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DAYS_KEPT: Final = 62
"""Days of which the reads of the LLM cache are kept apart."""

HIGHEST: Final = 2**64
"""The largest number in a file of counters. A sum stays at it, so that it can be read again."""

Days = dict[str, dict[str, int]]
"""Reads of the LLM cache, ``hits`` and ``misses``, by day in UTC (``2026-11-28``)."""


def add_days(days: Days, more: Mapping[str, Mapping[str, int]]) -> None:
    """Adds ``more`` to ``days``, of which the newest are kept."""
    for day, counts in more.items():
        of_day = days.setdefault(day, {})
        for name, count in counts.items():
            of_day[name] = min(of_day.get(name, 0) + count, HIGHEST)
    for day in sorted(days)[:-DAYS_KEPT]:
        del days[day]
