"""A pytest plugin that runs the tests it is asked for, each time in a process of its own.

For `tools/mutants run`: to import and collect all tests takes longer than most of them run, so it
is done once, and a process that has done it is forked for each mutant.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest
from copied_tree import end_session

import nano_graphrag_redis._core as core

FAILED: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps in mind what failed."""
    if report.failed:
        FAILED.append(report.nodeid)


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Answers as long as it is asked: a line of JSON each way."""
    items = {item.nodeid: item for item in session.items}
    with (
        socket.socket(fileno=int(os.environ.pop("MUTANTS_SOCKET"))) as asked,
        asked.makefile("rw") as lines,
    ):
        for line in lines:
            question = json.loads(line)
            chosen = [items[test] for test in question["tests"] if test in items]
            told = forked(chosen, question["mutant"], question["cpu"], question["seconds"])
            lines.write(f"{json.dumps(told)}\n")
            lines.flush()
    return True


def forked(
    items: list[pytest.Item], mutant: int | None, cpu: int, seconds: float
) -> tuple[int | None, str]:
    """The exit code of a run of these, None if it had to be ended; the last that was begun."""
    with tempfile.NamedTemporaryFile() as begun:
        child = os.fork()
        if child == 0:
            exit_code = 2
            try:
                os.setsid()
                for what, most in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, 8 << 30)):
                    resource.setrlimit(what, (most, most))
                if mutant is not None:
                    os.environ["MUTANT"] = str(mutant)
                    ctypes.CDLL(core.__file__).choose_mutant(ctypes.c_size_t(mutant))
                exit_code = run(items, Path(begun.name))
            finally:
                os._exit(exit_code)
        code = ended(child, time.monotonic() + seconds)
        end_session(child)
        return code, Path(begun.name).read_text()


def run(items: list[pytest.Item], begun: Path) -> int:
    """Runs tests up to the first that fails."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        begun.write_text(item.nodeid)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if FAILED:
            return 1
    return 0


def ended(child: int, until: float) -> int | None:
    """The exit code of a process; None where it did not end, or used up its processor time."""
    while time.monotonic() < until:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            code = os.waitstatus_to_exitcode(status)
            return None if code in {-signal.SIGKILL, -signal.SIGXCPU} else code
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
