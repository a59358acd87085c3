"""The command, as a user runs it: in a process and a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nano_graphrag_redis
from support.preloaded import Preloaded

STANDIN = Path(__file__).parents[1] / "hosts" / "standin_factory_host"

PATH = [STANDIN, Path(nano_graphrag_redis.__path__[0]).parent]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environ() -> dict[str, str]:
    """An environment with the stand-in for a host, which starts faster than the real one."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    return inherited | {
        "PYTHONPATH": os.pathsep.join(map(str, PATH)),
        "STORAGE_KV_BACKEND": "redis",
    }


@pytest.fixture(scope="session")
def preloaded_command() -> Iterator[Preloaded]:
    main = "nano_graphrag_redis.cli.app"
    with Preloaded(main, path=PATH, options=["-W", "error"]) as preloaded:
        yield preloaded


@pytest.fixture
def command(tmp_path: Path, environ: dict[str, str], preloaded_command: Preloaded) -> Command:
    """Runs ``nano-graphrag-redis`` with arguments, or python with ``python=True``.

    In an interpreter of its own where the start of one matters: ``run`` replaces itself by another
    program, and Python's own variables are read at the start.
    """

    def run(
        *arguments: str, python: bool = False, input: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        env, module = environ | more, () if python else ("-m", "nano_graphrag_redis")
        if not (
            python or arguments[:1] == ("run",) or any(key.startswith("PYTHON") for key in more)
        ):
            return preloaded_command.run(
                [*module, *arguments], env=env, cwd=tmp_path, input=input, timeout=60
            )
        return subprocess.run(
            [sys.executable, "-W", "error", *module, *arguments],
            env=env,
            cwd=tmp_path,
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
