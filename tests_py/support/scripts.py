"""Scripts in fresh interpreters: what forks, is interrupted or exits must not take pytest along."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

_TESTS = Path(__file__).parents[1]
# The real host takes seconds to import; the storages need only the base class of one.
LIGHT_HOST = _TESTS / "hosts" / "standin_factory_host"

_PREAMBLE = """
import asyncio, gc, os, signal, sys, threading, time, warnings
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import *
# What is tested is a fork of a process with threads.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
URL = sys.argv[1]
storage = RedisKVStorage("full_docs", {"redis_url": URL})
"""


@dataclass(frozen=True)
class Ended:
    """How a script ended.

    Attributes:
        code: Its exit code; negative for a signal.
        out: What it printed.
        err: What it wrote to stderr.
        seconds: How long it ran, imports included.
    """

    code: int
    out: str
    err: str
    seconds: float

    def cleanly(self) -> str:
        """What it printed, if it ended with code 0 and said nothing on stderr."""
        assert (self.code, self.err) == (0, ""), self
        return self.out


def run_script(source: str, *arguments: object, timeout: float = 150.0) -> Ended:
    """Runs `source` after imports and a `storage` on the server of the first argument.

    Raises:
        subprocess.TimeoutExpired: It has not ended after `timeout` seconds; it was killed.
    """
    began = time.monotonic()
    script = start_script(source, *arguments)
    try:
        out, err = script.communicate(timeout=timeout)
    except BaseException:
        script.kill()
        script.communicate()
        raise
    return Ended(script.returncode, out, err, time.monotonic() - began)


def python_path(*first: Path) -> str:
    """These directories before those of our own PYTHONPATH, which may say what is tested."""
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


def start_script(source: str, *arguments: object) -> subprocess.Popen[str]:
    """The same, for whoever has something to say to the process: its stdin is a pipe."""
    command = [sys.executable, "-W", "error", "-c", _PREAMBLE + textwrap.dedent(source)]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path(LIGHT_HOST)},
    )
