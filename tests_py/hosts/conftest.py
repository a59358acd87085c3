"""Fresh interpreters with a chosen host, for what a process can only do once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import nano_graphrag_redis

STANDIN = Path(__file__).parent / "standin_factory_host"

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def standin() -> Path:
    """The directory that holds the factory host's stand-in."""
    return STANDIN


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Runs a source text in a fresh interpreter, before whose packages stands ``host``."""

    def run(
        source: str, host: Path, *flags: str, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        package = Path(nano_graphrag_redis.__path__[0]).parent
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))
        }
        path = os.pathsep.join([str(host), str(package)])
        return subprocess.run(
            [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(source)],
            env=inherited | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"} | environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def printed(run_python: RunPython) -> Callable[..., list[str]]:
    """Runs a source text as ``run_python`` does; it must succeed, and print nothing to stderr."""

    def run(source: str, host: Path, **environ: str) -> list[str]:
        finished = run_python(source, host, **environ)
        assert (finished.returncode, finished.stderr) == (0, "")
        return finished.stdout.splitlines()

    return run
