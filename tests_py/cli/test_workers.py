"""Workers whose hash seeds differ, or that are on JSON: what doctor and the metrics say of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import nano_graphrag_redis
from nano_graphrag_redis.workers.live_workers import workers
from nano_graphrag_redis.workers.merged_counters import merged
from support.conditions import eventually
from support.servers import RedisServer

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., None]

FACTORY_HOST = """
import asyncio, sys
from nano_graphrag import GraphRAG, GraphRAGConfig
rag = GraphRAG(GraphRAGConfig.from_env())
asyncio.run(rag.full_docs.get_by_id("doc-1"))
sys.stdin.read()
"""
UPSTREAM = """
import sys
from nano_graphrag import GraphRAG
rag = GraphRAG(working_dir="./work")
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes", maxmemory_policy="noeviction") as server:
        yield server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "metrics"


@pytest.fixture
def start(
    tmp_path: Path, directory: Path, environ: dict[str, str], server: RedisServer
) -> Iterator[Start]:
    """Starts a worker under ``run``; it ends when the test does."""
    (tmp_path / "worker.py").write_text(FACTORY_HOST)
    (tmp_path / "upstream.py").write_text(UPSTREAM)
    running = {**environ, "REDIS_URL": server.url, "REDIS_METRICS_DIR": str(directory)}
    with ExitStack() as workers:

        def started(script: str = "worker.py", **variables: str) -> None:
            process = workers.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "nano_graphrag_redis", "run", script],
                    env={**running, **variables},
                    cwd=tmp_path,
                    stdin=subprocess.PIPE,
                )
            )
            assert process.stdin is not None
            workers.callback(process.stdin.close)

        yield started


@pytest.fixture
def findings(
    command: Command, directory: Path, server: RedisServer
) -> Callable[[int], dict[str, Any]]:
    """What doctor finds out about the workers, once so many write."""

    def found(workers: int) -> dict[str, Any]:
        eventually(lambda: directory.is_dir() and running(directory) == workers, 60)
        report = command("doctor", "--url", server.url, "--json", REDIS_METRICS_DIR=str(directory))
        told = {each["check"]: each for each in json.loads(report.stdout)["findings"]}
        return {check: each for check, each in told.items() if check.startswith("workers")}

    return found


def running(directory: Path) -> int:
    return sum(int(each["count"]) for each in workers(directory))


def test_workers_that_share_everything_are_well(start: Start, findings: Any) -> None:
    start()
    start()
    (told,) = findings(2).values()
    assert (told["severity"], told["title"]) == ("ok", "2 workers on Redis, with one hash seed")


def test_workers_with_different_seeds_are_found(
    start: Start, findings: Any, directory: Path, command: Command
) -> None:
    for seed in ("0", "0", "7", "3"):
        start(PYTHONHASHSEED=seed)
    told = findings(4)
    assert set(told) == {"workers-hash-seeds"}
    assert told["workers-hash-seeds"]["severity"] == "warning"
    assert told["workers-hash-seeds"]["title"] == "4 workers with 3 different hash seeds"
    assert "PYTHONHASHSEED=0" in told["workers-hash-seeds"]["remedy"]
    scrape = command("metrics", "--once", "--dir", str(directory)).stdout.splitlines()
    series = [line for line in scrape if line.startswith("nano_graphrag_redis_workers{")]
    assert sorted(line.split("} ")[1] for line in series) == ["1.0", "1.0", "2.0"]
    assert all('{backend="redis",' in line for line in series)
    # A secret seed cannot be found by trying them all: too many have the same fingerprint.
    assert all(int(each["hash_seed"], 16) < 256 for each in workers(directory))


def test_a_worker_on_json_files_is_found(start: Start, findings: Any, directory: Path) -> None:
    start()
    start(STORAGE_KV_BACKEND="json")
    # The real host, in place of the stand-in.
    package = Path(nano_graphrag_redis.__path__[0]).parent
    start("upstream.py", STORAGE_KV_BACKEND="json", PYTHONPATH=os.fspath(package))
    told = findings(3)
    assert set(told) == {"workers-on-json"}
    assert told["workers-on-json"]["severity"] == "error"
    assert told["workers-on-json"]["title"] == "2 of 3 workers on JSON files"
    assert "STORAGE_KV_BACKEND=redis" in told["workers-on-json"]["remedy"]
    backends = {each["backend"]: each["count"] for each in workers(directory)}
    assert backends == {"json": 2, "redis": 1}
    assert merged(directory)["workers"] == workers(directory)


def test_a_worker_that_ended_is_not_counted(
    command: Command, server: RedisServer, directory: Path, tmp_path: Path, findings: Any
) -> None:
    (tmp_path / "short.py").write_text(FACTORY_HOST)
    where = {"REDIS_URL": server.url, "REDIS_METRICS_DIR": str(directory)}
    for backend in ("redis", "json"):
        command("run", "short.py", STORAGE_KV_BACKEND=backend, **where)
    told = findings(0)
    assert told["workers"]["severity"] == "ok"
    assert "no worker writes its counters" in told["workers"]["title"]
    assert len(list(directory.glob("*.json"))) == 2


def test_a_host_on_json_loads_nothing_of_ours_where_nobody_counts(
    command: Command, tmp_path: Path
) -> None:
    source = FACTORY_HOST.replace(
        "sys.stdin.read()", "print([m for m in COSTLY if m in sys.modules])"
    )
    costly = ["nano_graphrag_redis.workers.counter_writer", "nano_graphrag_redis.storage"]
    (tmp_path / "app.py").write_text(f"COSTLY = {costly}\n{source}")
    ended = command("run", "app.py", STORAGE_KV_BACKEND="json")
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr
