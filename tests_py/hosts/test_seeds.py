"""Workers whose hash seeds differ pay for the same question again: register() says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

RunPython = Callable[..., CompletedProcess[str]]

SOURCE = """
import os
import nano_graphrag_redis
os.environ.update(LATE)
for _ in range(2):
    nano_graphrag_redis.register()
    nano_graphrag_redis.unregister()
"""
WARNING = "the hash seed of this process is random"


@pytest.mark.parametrize("seed", ["", "random"])
def test_a_random_seed_is_warned_about_once(
    seed: str, run_python: RunPython, standin: Path
) -> None:
    ended = run_python(
        f"LATE = {{}}{SOURCE}", standin, STORAGE_KV_BACKEND="redis", PYTHONHASHSEED=seed
    )
    assert (ended.returncode, ended.stderr.count(WARNING)) == (0, 1), ended.stderr
    assert "PYTHONHASHSEED=0" in ended.stderr


def test_a_seed_that_is_set_too_late_is_warned_about(run_python: RunPython, standin: Path) -> None:
    source = f"LATE = {{'PYTHONHASHSEED': '0'}}{SOURCE}"
    ended = run_python(source, standin, STORAGE_KV_BACKEND="redis", PYTHONHASHSEED="")
    assert WARNING in ended.stderr


@pytest.mark.parametrize(("backend", "seed"), [("redis", "0"), ("redis", "7"), ("json", "")])
def test_one_seed_or_no_shared_cache_is_not_warned_about(
    backend: str, seed: str, run_python: RunPython, standin: Path
) -> None:
    ended = run_python(
        f"LATE = {{}}{SOURCE}", standin, STORAGE_KV_BACKEND=backend, PYTHONHASHSEED=seed
    )
    assert (ended.returncode, ended.stderr) == (0, "")
