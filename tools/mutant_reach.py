"""A pytest plugin that notes which mutants each test came by; for `tools/mutants reach`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

NOTES = Path(os.environ["MUTANTS_REACH_NOTES"])
REACHED = NOTES / os.environ.get("PYTEST_XDIST_WORKER", "main")
"""A byte for each mutant, which this worker and all processes it starts have mapped."""
NONE = bytes(int(os.environ["MUTANTS_COUNT"]))
REACHED.write_bytes(NONE)
os.environ["MUTANTS_REACHED"] = str(REACHED)
FAILED: set[str] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Reads the bytes behind a test and takes them back."""
    started = time.monotonic()
    ran = yield
    seconds = round(time.monotonic() - started, 2)
    numbers = [number for number, byte in enumerate(REACHED.read_bytes()) if byte]
    with REACHED.open("r+b") as reached:  # not a new file: it is mapped
        reached.write(NONE)
    with REACHED.with_suffix(".jsonl").open("a") as notes:
        seen = (item.nodeid, seconds, numbers, item.nodeid not in FAILED)
        notes.write(f"{json.dumps(seen)}\n")
    return ran


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps in mind what failed."""
    if report.failed:
        FAILED.add(report.nodeid)
