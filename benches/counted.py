"""Instructions of encode, decode, a read, a write and a crossing, held against those kept.

Counts hardly depend on what else the machine does (a loop wakes up more often on a busy one: 3 %
were seen), so a change that makes one of them slower shows on any machine. They belong to one
CPython, one compiler and one C library: where these differ from those beside the figures, keep new
figures first (``--keep``), then change the code.

Run: make counted
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benches.profile import package_with_names, per_item
from benches.server import running_server

KEPT = Path(__file__).with_name("instructions.json")
ROOM = 0.05
"""By what share a figure may grow before it is a slower change."""

CALLS = [
    "read-chunks",
    "blocking-read-chunks",
    "write-chunks",
    "crossing-chunks",
    "blocking-crossing-chunks",
    "get-reports",
    "upsert-reports",
]


def main() -> int:
    """Count, print, and compare.

    Returns:
        1 where something takes over 5 % more instructions than were kept, and 0 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m benches.counted", description=__doc__)
    parser.add_argument("codec", type=Path, help="what `make instructions` printed")
    parser.add_argument("--keep", action="store_true", help="keep these figures from now on")
    options = parser.parse_args()
    counts = dict(_codec(options.codec.read_text()))
    with tempfile.TemporaryDirectory() as directory, running_server() as server:
        package = package_with_names(Path(directory))
        for call in CALLS:
            counts[call] = round(sum(per_item(package, server.url, call).values()))
    if options.keep:
        KEPT.write_text(json.dumps({"counted with": _tools(), "instructions": counts}, indent=2))
    if not KEPT.exists():
        print(f"no figures were kept to compare with: {counts}")
        return 1
    kept = json.loads(KEPT.read_text())
    if kept["counted with"] != _tools():
        print(f"kept with {kept['counted with']}, counted with {_tools()}")
    return compare(kept["instructions"], counts)


def compare(kept: dict[str, int], counts: dict[str, int]) -> int:
    """Prints each figure beside the one that was kept.

    Returns:
        1 where one has grown by more than 5 %, is missing, or was not kept; 0 otherwise.
    """
    print("| instructions an item | kept | counted | ratio |\n| --- | ---: | ---: | ---: |")
    slower = []
    for name in sorted({*kept, *counts}):
        before, now = kept.get(name), counts.get(name)
        if not before or not now:
            slower.append(name)
            print(f"| {name} | {before} | {now} | |")
            continue
        slower += [name] * (now > before * (1 + ROOM))
        print(f"| {name} | {before:,} | {now:,} | {now / before:.3f} |")
    if slower:
        print(f"more than {ROOM:.0%} slower, or kept or counted alone: {', '.join(slower)}")
    return int(bool(slower))


def _codec(printed: str) -> Iterator[tuple[str, int]]:
    """Ours of each row: ``text_chunks encode  1234  2345  0.53``."""
    for row in re.finditer(r"^(\w+ \w+) +(\d+) +\d+ +[\d.]+$", printed, re.MULTILINE):
        yield row[1], int(row[2])


def _tools() -> str:
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True)
    return f"CPython {platform.python_version()}, {' '.join(rustc.stdout.split()[:2])}"


if __name__ == "__main__":
    sys.exit(main())
