"""Workers whose hash seeds differ pay for the same question again: they are told so."""

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


@pytest.mark.parametrize("seed", ["", "0"])
def test_a_backend_that_is_chosen_after_register_is_warned_about_when_it_is_used(
    seed: str, run_python: RunPython, standin: Path
) -> None:
    source = """
        import os
        import nano_graphrag_redis
        nano_graphrag_redis.register()
        os.environ["STORAGE_KV_BACKEND"] = "redis"  # as an application that reads its .env file
        from nano_graphrag import GraphRAG, GraphRAGConfig
        GraphRAG(GraphRAGConfig.from_env())
        """
    ended = run_python(source, standin, STORAGE_KV_BACKEND="", PYTHONHASHSEED=seed)
    assert (ended.returncode, ended.stderr.count(WARNING)) == (0, seed == ""), ended.stderr


@pytest.mark.parametrize(("backend", "seed"), [("redis", "0"), ("redis", "7"), ("json", "")])
def test_one_seed_or_no_shared_cache_is_not_warned_about(
    backend: str, seed: str, run_python: RunPython, standin: Path
) -> None:
    ended = run_python(
        f"LATE = {{}}{SOURCE}", standin, STORAGE_KV_BACKEND=backend, PYTHONHASHSEED=seed
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("seed", "warnings"), [("", 1), ("7", 0)])
def test_a_host_that_is_given_the_class_is_warned_once(
    seed: str, warnings: int, run_python: RunPython, standin: Path
) -> None:
    source = """
    from nano_graphrag_redis import RedisKVStorage
    for namespace in ("full_docs", "llm_response_cache", "llm_response_cache"):
        RedisKVStorage(namespace, {"enable_llm_cache": True})
    """
    ended = run_python(source, standin, PYTHONHASHSEED=seed)
    assert (ended.returncode, ended.stderr.count(WARNING)) == (0, warnings), ended.stderr


def test_whoever_else_opens_the_cache_is_not(run_python: RunPython, standin: Path) -> None:
    source = """
    from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
    for storage in (RedisKVStorage, SyncRedisKVStorage):
        storage("llm_response_cache", {})
    """
    ended = run_python(source, standin, PYTHONHASHSEED="")
    assert (ended.returncode, ended.stderr) == (0, "")
