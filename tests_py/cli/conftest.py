"""The command, as a user runs it: in a process and a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nano_graphrag_redis

STANDIN = Path(__file__).parents[1] / "hosts" / "standin_factory_host"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environ() -> dict[str, str]:
    """An environment with the stand-in for a host, which starts faster than the real one."""
    package = Path(nano_graphrag_redis.__path__[0]).parent
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    return inherited | {
        "PYTHONPATH": os.pathsep.join([str(STANDIN), str(package)]),
        "STORAGE_KV_BACKEND": "redis",
    }


@pytest.fixture
def command(tmp_path: Path, environ: dict[str, str]) -> Command:
    """Runs ``nano-graphrag-redis`` with arguments, or python with ``python=True``."""

    def run(*arguments: str, python: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
        module = [] if python else ["-m", "nano_graphrag_redis"]
        return subprocess.run(
            [sys.executable, "-W", "error", *module, *arguments],
            env=environ | more,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
