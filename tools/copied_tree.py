"""A copy of the tree in which the core is changed, built and tested."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    *("src", "benches", "python", "tests_py", "deploy", "examples", "tools/linearizable"),
    *("Cargo.toml", "Cargo.lock", "build.rs", "pyproject.toml"),
)
PROFILE = "mutants"
"""Of Cargo.toml."""


class BuildError(Exception):
    """The core does not compile."""


def copy_to(tree: Path) -> None:
    """Copies what a build and the tests need."""
    ignore = shutil.ignore_patterns("__pycache__", "*.so", ".mypy_cache")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=ignore)
        else:
            shutil.copy2(source, tree / name)


def build_core(
    tree: Path,
    target: Path,
    into: Sequence[Path],
    environment: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Builds the core of a tree and puts it beside the Python packages of others.

    Args:
        tree: What is built.
        target: Cargo's directory.
        into: The trees whose tests are to run over it.
        environment: What cargo is to have in its environment besides.
        flags: Of rustc.

    Returns:
        The core of the last of the trees.

    Raises:
        BuildError: It does not compile.
    """
    command = ["nice", "cargo", "rustc", "--quiet", "--lib", "--locked"]
    command += ["--profile", PROFILE, "--crate-type", "cdylib", "--", *flags]
    built = subprocess.run(
        command,
        cwd=tree,
        env={
            **os.environ,
            "PYO3_PYTHON": sys.executable,
            "PYO3_BUILD_EXTENSION_MODULE": "1",
            "CARGO_TARGET_DIR": str(target),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        raise BuildError(built.stderr)
    core = target / PROFILE / "libnano_graphrag_redis.so"
    for each in into:
        name = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
        beside = each / "python" / "nano_graphrag_redis" / name
        beside.unlink(missing_ok=True)  # a process that still has the old one mapped keeps it
        shutil.copy(core, beside)
        core = beside
    return core


def end_all(mark: str) -> None:
    """Ends the processes that have this in their environment: what a run left behind."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark.encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def end_session(leader: int) -> None:
    """Ends what the leader of a session left behind, such as the servers of a test."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # it has ended
            told = (process / "stat").read_text().rpartition(")")[2].split()
            if int(told[3]) == leader:
                os.kill(int(process.name), signal.SIGKILL)
