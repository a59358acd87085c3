"""The README's table of the calls: taken out of a report, so that both tell of one run.

A report is Markdown by `report`; nothing else is asked, so the README can be held against
docs/benchmark.md without a server.
"""

import re
from collections.abc import Mapping, Sequence

BEGIN = "<!-- from docs/benchmark.md, by make bench BENCH=--write -->"
END = "<!-- end of what is from docs/benchmark.md -->"
SHOWN = ("nano-graphrag-redis", "straightforward: redis-py + json")
RATIOS = ("straightforward ÷ ours", "best ÷ ours")
FILES, CACHED_ANSWER = "JsonKVStorage", "around an LLM call: get, upsert, save"

Row = Mapping[str, str]


def with_figures(readme: str, report: str) -> str:
    """The README with what stands between its two comments taken from the report.

    Raises:
        ValueError: The README has not both comments, or the report has no such table.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The README has no place for the figures: {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{figures(report)}\n{END}{after}"


def figures(report: str) -> str:
    """When and on what it was measured, the table of the calls, and what it says in words."""
    run = {row["measured"]: row["this run"] for row in table(report, "this run")}
    calls = table(report, RATIOS[0])
    lines = [
        ["call, µs an item", "ours", "straightforward", *RATIOS],
        ["---"] * (1 + len(SHOWN) + len(RATIOS)),
        *([_title(row), *(_median(row[name]) for name in (*SHOWN, *RATIOS))] for row in calls),
    ]
    shown = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    told = [_run(run), shown, _behind(calls), _files(calls)]
    # Who has a near cache, as the report says it.
    near = re.search(r"^A near cache .*?(?=\n\n)", report, re.MULTILINE | re.DOTALL)
    return "\n\n".join([*told, near[0]] if near else told)


def table(report: str, column: str) -> list[Row]:
    """The first table that has this column, its rows by column."""
    for lines in re.findall(r"(?:^\|.*\n)+", report, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")]
                            for line in lines.splitlines()]  # fmt: skip
        if column in header:
            return [dict(zip(header, row, strict=True)) for row in rows]
    raise ValueError(f"The report has no table with a column {column!r}.")


def _run(run: Row) -> str:
    told = [run["Date"], run["Processor"], run["Python"], run["Server"]]
    if "Commit" in run:
        told.insert(1, f"commit {run['Commit']}")
    return f"The run: {'; '.join(told)}."


def _behind(calls: Sequence[Row]) -> str:
    """Which calls another client was faster in."""
    slower = [
        f"{_title(row)} ({row[RATIOS[1]]})"
        for row in calls
        if (ratio := re.match(r"[\d.]+", row[RATIOS[1]])) and float(ratio[0]) < 1
    ]
    if not slower:
        return "In this run none of the others was faster in any of these calls."
    return f"In this run one of the others was faster in: {'; '.join(slower)}."


def _files(calls: Sequence[Row]) -> str:
    """What the host's own files take for one more cached answer, where the run measured it."""
    for row in calls:
        if row["microseconds of an item"] == CACHED_ANSWER and FILES in row:
            ours, files = _median(row[SHOWN[0]]), _median(row[FILES])
            return (
                "One more cached answer (get, upsert, save, at 1,000 entries) takes the host's "
                f"JSON files {files} µs, this backend {ours}."
            )
    raise ValueError(f"The report has no row {CACHED_ANSWER!r}.")


def _title(row: Row) -> str:
    return row["microseconds of an item"]


def _median(cell: str) -> str:
    return cell.partition(" (")[0]
