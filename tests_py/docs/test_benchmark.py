"""The README quotes the benchmark's report, and nothing but the report."""

from __future__ import annotations

import pytest

from benches.counted import compare
from benches.readme import BEGIN, END, with_figures
from support.pages import read

REPORT = "docs/benchmark.md"


def a_row() -> str:
    """The report's line for one call; whatever it says, the call is always measured."""
    return next(line for line in read(REPORT).splitlines() if line.startswith("| filter_keys"))


def test_the_figures_of_the_readme_are_those_of_the_report() -> None:
    assert read("README.md") == with_figures(read("README.md"), read(REPORT))


def test_a_figure_of_another_run_is_seen() -> None:
    row = a_row()
    another = read(REPORT).replace(row, row.replace(" | ", " | 9", 1))
    assert read("README.md") != with_figures(read("README.md"), another)


def test_a_call_that_another_client_is_faster_in_is_named() -> None:
    slower = a_row()[: a_row().rindex(" | ", 0, -2)] + " | 0.91 |"
    told = with_figures(read("README.md"), read(REPORT).replace(a_row(), slower))
    assert "filter_keys, 2,000 ids, half missing (0.91)" in told


@pytest.mark.parametrize("mark", [BEGIN, END])
def test_a_readme_without_a_place_for_the_figures_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="no place for the figures"):
        with_figures(read("README.md").replace(mark, ""), read(REPORT))


@pytest.mark.parametrize(
    ("kept", "counted", "code"),
    [
        ({"read": 1000}, {"read": 1000}, 0),
        ({"read": 1000}, {"read": 500}, 0),
        ({"read": 1000}, {"read": 1050}, 0),
        ({"read": 1000}, {"read": 1051}, 1),
        ({"read": 1000, "write": 10}, {"read": 1000}, 1),
        ({}, {"read": 1000}, 1),
    ],
)
def test_instructions_that_grow_by_more_than_5_percent_fail(
    kept: dict[str, int], counted: dict[str, int], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(kept, counted) == code
    assert ("slower" in capsys.readouterr().out) == bool(code)
