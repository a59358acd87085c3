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
_LIGHT_HOST = _TESTS / "hosts" / "standin_factory_host"

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
    path = os.pathsep.join([str(_LIGHT_HOST), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [
            sys.executable, "-W", "error", "-c", _PREAMBLE + textwrap.dedent(source),
            *map(str, arguments),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - began)
