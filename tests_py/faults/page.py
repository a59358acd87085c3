"""docs/reliability.md, made of what a full run saw."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from pathlib import Path

from support.servers import server_binaries, server_label

from .rows import Rows

PAGE = """\
# Reliability

Each row injects a fault on real servers and measures what is promised under it. `make faults` runs
them all and writes this page; `make test` runs a small size of each, with five times the room for
promised times; `make controls` takes our guards away one by one and sees their tests fail. A row
that could not be run in full says why, and what stood in for it; one that the last run left out
(`make faults FAULTS=tests_py/faults/test_sizes.py` runs a part) is as it was seen before.

The last run: {cores} cores, {system}, CPython {python}, {servers}.

{table}
"""


def write_page(path: Path, rows: Rows) -> None:
    """Writes the page over the last one."""
    last = path.read_text(encoding="utf-8") if path.exists() else ""
    before = {int(line[1]): line[0] for line in re.finditer(r"^\| (\d+) \|.*$", last, re.MULTILINE)}
    path.write_text(
        PAGE.format(
            cores=os.cpu_count(),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            servers=", ".join(map(server_label, server_binaries().values())),
            table=rows.table(str(dt.datetime.now(dt.timezone.utc).date()), before),
        ),
        encoding="utf-8",
    )
