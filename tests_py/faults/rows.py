"""What a test of the matrix says of its row, and what became of all rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .matrix import MATRIX

ROOM = 5
"""How many times its figure a promised time may take on a machine that others use."""

PROPERTY = "row of the matrix"

T = TypeVar("T")


@dataclass
class Row:
    """The row that a test belongs to: how much to do, and a place for what was seen.

    Attributes:
        number: Of the row.
        full: Whether the figures are to be met as promised, with their full counts.
        figures: What was seen, in words.
        reasons: Why something could not be done here, and what stood in for it.
    """

    number: int
    full: bool
    figures: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def pick(self, *, quick: T, full: T) -> T:
        """The count or time of this run."""
        return full if self.full else quick

    def saw(self, what: str, value: object) -> None:
        """A figure to be shown, of which nothing is promised."""
        self.figures.append(f"{what}: {_shown(value)}")

    def none(self, what: str, found: int, *, of: int) -> None:
        """So many of so many; there must be none."""
        self.saw(what, f"{found:,} of {of:,}")
        assert of > 0, f"row {self.number} shows nothing: no {what} could have been seen"
        assert found == 0, f"row {self.number}: {what}: {found} of {of}"

    def at_most(self, what: str, seen: float, promised: float, unit: str = "") -> None:
        """A bound that no busy machine excuses."""
        self.saw(what, f"{_shown(seen)} {unit}".strip())
        assert seen <= promised, f"row {self.number}: {what}: {seen} {unit}, promised {promised}"

    def within(self, what: str, seconds: float, promised: float) -> None:
        """A promised time in seconds; with room, unless this is the full run."""
        self.saw(what, f"{_shown(seconds * 1000)} ms")
        limit = promised if self.full else ROOM * promised
        assert seconds <= limit, f"row {self.number}: {what}: {seconds} s, promised {promised} s"

    def named(self, reason: str) -> None:
        """What cannot be done in a test run, and what stands in for it."""
        self.reasons.append(reason)


def marked(directory: Path) -> Iterator[tuple[int, str]]:
    """Every test function below a directory that names a row, with that row."""
    for path in directory.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for mark in map(ast.unparse, node.decorator_list):
                    if found := re.fullmatch(r"pytest\.mark\.row\((\d+)\)", mark):
                        yield int(found[1]), node.name


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


@dataclass
class Rows:
    """Every test that ran, by its row."""

    told: dict[int, list[Row]] = field(default_factory=dict)
    failed: dict[int, list[str]] = field(default_factory=dict)
    missing: dict[int, set[str]] = field(default_factory=dict)
    """Tests that were not run yet; of those that were not even collected, the function."""

    def expect(self, number: int, test: str) -> None:
        """This row has this test: a function, or one set of its parameters in place of it."""
        tests = self.missing.setdefault(number, set())
        tests.discard(test.partition("[")[0])
        tests.add(test)

    def ran(self, row: Row, test: str, *, passed: bool) -> None:
        """A test of this row is over."""
        self.told.setdefault(row.number, []).append(row)
        self.missing.get(row.number, set()).discard(test)
        if not passed:
            self.failed.setdefault(row.number, []).append(test)

    def lines(self) -> Iterator[tuple[int, str, str]]:
        """Of each row of the matrix: its number, what was seen, and the verdict."""
        for number in MATRIX:
            told = self.told.get(number, [])
            seen = dict.fromkeys(figure for row in told for figure in row.figures)
            reasons = dict.fromkeys(reason for row in told for reason in row.reasons)
            if number in self.failed:
                verdict = f"**fails**: {', '.join(self.failed[number])}"
            elif not told:
                verdict = "**missing**: no test of it was run"
            elif self.missing.get(number):
                verdict = f"**in part**: not run: {', '.join(sorted(self.missing[number]))}"
            elif not seen:
                verdict = "; ".join(["**named**", *reasons]) if reasons else "**nothing was seen**"
            else:
                verdict = "; ".join(["holds", *reasons])
            yield number, "; ".join(seen), verdict

    def table(self, day: str, before: Mapping[int, str]) -> str:
        """All rows, as Markdown; those of which this run left out something as they were before."""
        head = "| # | fault | promise | figure promised | figure seen | verdict | day |"
        lines = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
        for number, seen, verdict in self.lines():
            part = number not in self.told or self.missing.get(number)
            if part and number not in self.failed and number in before:
                lines.append(before[number])
                continue
            fault = MATRIX[number]
            cells = [number, fault.name, fault.promise, fault.figure, seen, verdict, day]
            escaped = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
            lines.append(f"| {' | '.join(escaped)} |")
        return "\n".join(lines)
