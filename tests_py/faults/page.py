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

Each row injects a fault into real servers and measures what this package promises under that
fault. `make faults` runs every row at full size and writes this page. `make test` runs a small
version of each row and allows five times the promised durations. `make controls` removes the
safeguards one at a time and checks that their tests fail. If a row could not be run in full, its
verdict says why and what was run instead. A partial run
(`make faults FAULTS=tests_py/faults/test_sizes.py`) keeps the earlier results of each row of which
it does not run every test.

Last run: {cores} cores, {system}, CPython {python}, {servers}.

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
