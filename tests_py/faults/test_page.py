"""docs/reliability.md says of a row what a run of all its tests saw, and nothing else."""

from __future__ import annotations

from pathlib import Path

from .matrix import MATRIX
from .rows import Row, Rows, marked

BEFORE = {12: "| 12 | as it was |", 30: "| 30 | as it was |"}


def run(rows: Rows, *tests: str, passed: bool = True) -> str:
    """The line of row 12 once these of its tests are over."""
    for test in tests:
        rows.ran(Row(12, full=True, figures=["a figure"]), test, passed=passed)
    return rows.table("2026-01-01", BEFORE).splitlines()[1 + 12]


def rows_of_three() -> Rows:
    rows = Rows()
    rows.expect(12, "test_many")
    for test in ("test_many[a]", "test_many[b]", "test_one"):
        rows.expect(12, test)
    return rows


def test_a_row_is_told_anew_by_a_run_of_all_its_tests() -> None:
    rows = rows_of_three()
    assert run(rows, "test_many[a]", "test_one") == BEFORE[12]
    line = run(rows, "test_many[b]")
    assert line.startswith("| 12 | server stalls")
    assert "| a figure | holds | 2026-01-01 |" in line


def test_a_test_that_was_not_even_collected_is_missed() -> None:
    rows = rows_of_three()
    rows.expect(12, "test_of_another_file")
    assert run(rows, "test_many[a]", "test_many[b]", "test_one") == BEFORE[12]
    verdicts = {number: verdict for number, _, verdict in rows.lines()}
    assert verdicts[12] == "**in part**: not run: test_of_another_file"


def test_a_failure_is_told_of_a_run_in_part_too() -> None:
    assert "**fails**: test_one" in run(rows_of_three(), "test_one", passed=False)


def test_every_row_of_the_matrix_has_a_test() -> None:
    assert {number for number, _ in marked(Path(__file__).parent)} == set(MATRIX)
