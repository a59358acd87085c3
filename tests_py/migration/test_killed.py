"""Whoever is killed half-way leaves nothing that cannot be gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from migration.conftest import WriteFile
from nano_graphrag_redis import SyncRedisKVStorage, migration
from support.servers import RedisServer

KEY = "nano_graphrag:full_docs:"
DOCS = {f"doc-{n:05}": {"content": f"Marley was dead {n}. " * 40} for n in range(4000)}

MIGRATE = """
import os, signal, sys
from nano_graphrag_redis import migration
plan = migration.plan(sys.argv[2], {"redis_url": sys.argv[1]})
def half_way(progress):
    if progress.done > progress.total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
migration.migrate(plan, progress=half_way)
"""

WRITE = """
import sys
from nano_graphrag_redis import SyncRedisKVStorage
docs = SyncRedisKVStorage("full_docs", {
    "redis_url": sys.argv[1], "working_dir": sys.argv[2], "redis_dual_write": True,
})
n = 0
while True:
    docs.upsert({f"{n}": {"n": n}})
    print(n, flush=True)
    n += 1
"""

FOLD = """
import sys
from nano_graphrag_redis import migration
migration.fold(sys.argv[2], {"redis_url": sys.argv[1]})
"""


@pytest.fixture(scope="module")
def one_server() -> Iterator[RedisServer]:
    """Of one kind: what is killed here is not the server."""
    with RedisServer() as running:
        yield running


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], text=True, stdout=subprocess.PIPE
    )


def file(directory: Path) -> Any:
    return json.loads((directory / "kv_store_full_docs.json").read_text(encoding="utf-8"))


def test_a_migration_that_was_killed_goes_on_where_it_was(
    server: RedisServer, working_dir: Path, write_file: WriteFile, redis_client: Redis
) -> None:
    write_file("full_docs", DOCS)
    with start(MIGRATE, server.url, working_dir) as process:
        assert process.wait() == -signal.SIGKILL
    copied = len(redis_client.keys(f"{KEY}*"))
    assert 0 < copied < len(DOCS)
    settings = {"redis_url": server.url}
    (done,) = migration.migrate(migration.plan(working_dir, settings)).namespaces
    assert (done.unchanged, done.written) == (copied, len(DOCS) - copied)
    assert migration.verify(working_dir, settings).ok


def test_what_was_confirmed_before_a_kill_is_in_the_file(
    server: RedisServer, working_dir: Path
) -> None:
    confirmed = -1
    with start(WRITE, server.url, working_dir) as process:
        assert process.stdout is not None
        for line in process.stdout:
            confirmed = int(line)
            if confirmed == 300:
                process.kill()
    # The server is lost with it: all there is is the log.
    migration.fold(working_dir, {})
    found = file(working_dir)
    assert found.items() >= {f"{n}": {"n": n} for n in range(confirmed + 1)}.items()
    assert len(found) <= confirmed + 2


@pytest.mark.parametrize("moment", range(8))
def test_a_folding_that_is_killed_at_any_moment_leaves_a_whole_file_and_can_be_done_again(
    one_server: RedisServer, working_dir: Path, write_file: WriteFile, moment: int
) -> None:
    path = write_file("full_docs", {"old": "x" * 3_000_000, "changed": 0})
    one_server.client().flushall()
    settings = {
        "redis_url": one_server.url,
        "working_dir": str(working_dir),
        "redis_dual_write": True,
    }
    storage = SyncRedisKVStorage("full_docs", settings)
    storage.upsert({"changed": 1, **DOCS})
    before, after = file(working_dir), {"old": "x" * 3_000_000, "changed": 1, **DOCS}
    with start(FOLD, one_server.url, working_dir) as process:
        kill_after(process, working_dir, moment)
        process.wait()
    assert file(working_dir) in (before, after)
    migration.fold(working_dir, settings)
    assert file(working_dir) == after
    assert {name.name for name in path.parent.iterdir()} == {path.name, "kv_store_full_docs.lock"}
    storage.close()


def size(path: Path) -> int:
    """Bytes of a file; none of one that is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def kill_after(process: subprocess.Popen[Any], directory: Path, moment: int) -> None:
    """Kills a process at one of the states that a folding goes through."""
    new = directory / "kv_store_full_docs.json.new"
    folding = directory / "kv_store_full_docs.changes.folding"
    states: list[Callable[[], bool]] = [
        folding.exists,
        new.exists,
        lambda: size(new) > 0,
        lambda: size(new) > 1_000_000,
        lambda: size(new) > 3_000_000,
        lambda: size(new) > 5_000_000,
        lambda: (directory / "kv_store_full_docs.json").stat().st_size > 4_000_000,
        lambda: not folding.exists() and not (directory / "kv_store_full_docs.changes").exists(),
    ]
    while not states[moment]():
        if process.poll() is not None:  # it was quicker: its end is a state as well
            return
    process.kill()
