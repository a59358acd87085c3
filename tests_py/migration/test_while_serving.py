"""Files that the host writes while they are read, and what it finds when it goes back to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from migration.conftest import WriteFile
from nano_graphrag_redis import SyncRedisKVStorage, migration
from nano_graphrag_redis.exceptions import JsonFileError
from support.conditions import eventually
from support.servers import RedisServer

# What JsonKVStorage does after each LLM call: it opens the file for writing and writes it anew.
SERVICE = """
import json, sys, time
version, data = 0, {}
while True:
    version += 1
    data.update({f"doc-{n}": {"version": version, "text": f"<{version}>" * 400}
                 for n in range(version % 7, 1500, 7)})
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2, ensure_ascii=False)
    print(version, flush=True)
    time.sleep(0.3)
"""

HOST_ON_JSON = """
import json, sys
import nano_graphrag_redis
from nano_graphrag import GraphRAG
nano_graphrag_redis.register()
rag = GraphRAG(working_dir=sys.argv[1])
print(type(rag.full_docs).__name__, json.dumps(rag.full_docs._data))
"""


@pytest.fixture
def service(working_dir: Path) -> Any:
    path = working_dir / "kv_store_full_docs.json"
    command = [sys.executable, "-c", SERVICE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(8):
            process.stdout.readline()
        yield process
        process.kill()


def test_no_value_is_mixed_of_two_versions(
    service: subprocess.Popen[str],
    working_dir: Path,
    settings: dict[str, Any],
    redis_client: Redis,
) -> None:
    for _ in range(4):
        plan = migration.plan(working_dir, settings)
        migration.migrate(plan)
    keys = redis_client.keys("nano_graphrag:full_docs:*")
    assert len(keys) == 1500
    values: Any = redis_client.mget(keys)
    for value in map(json.loads, values):
        assert value["text"] == f"<{value['version']}>" * 400
    service.kill()
    service.wait()
    if not is_whole(working_dir):  # it was killed while it wrote
        with pytest.raises(JsonFileError, match="ends early"):
            migration.plan(working_dir, settings)
        return
    migration.migrate(migration.plan(working_dir, settings))
    assert migration.verify(working_dir, settings).ok


def is_whole(directory: Path) -> bool:
    try:
        json.loads((directory / "kv_store_full_docs.json").read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def test_a_file_of_another_time_than_the_plan_is_read_over_again(
    working_dir: Path, settings: dict[str, Any], write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1})
    plan = migration.plan(working_dir, settings)
    write_file("full_docs", {"b": 2, "c": 3})
    (done,) = migration.migrate(plan).namespaces
    assert (done.ids, done.written) == (2, 2)
    assert migration.verify(working_dir, settings).ok


# A process that was killed has folded nothing; the host that starts on JSON must not miss it.
def test_a_host_that_goes_back_to_json_finds_what_a_killed_process_has_logged(
    server: RedisServer, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1})
    settings = {"redis_url": server.url, "working_dir": str(working_dir), "redis_dual_write": True}
    storage = SyncRedisKVStorage("full_docs", settings)
    storage.upsert({"b": 2})
    log = working_dir / "kv_store_full_docs.changes"
    assert log.exists()
    assert found_on_json(working_dir) == {"a": 1, "b": 2}
    eventually(lambda: not log.exists())
    storage.close()


def found_on_json(working_dir: Path, **variables: str) -> Any:
    """The documents of the host, started on JSON."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    done = subprocess.run(
        [sys.executable, "-c", HOST_ON_JSON, str(working_dir)],
        env={**outside, "STORAGE_KV_BACKEND": "json", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    kind, _, found = done.stdout.strip().partition(" ")
    assert kind == "JsonKVStorage"
    return json.loads(found)


# What was not answered would be asked when it is up again, of values that never were on it.
def test_a_host_that_goes_back_to_json_while_the_server_is_away_keeps_what_it_writes_then(
    own_server: RedisServer, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"expired": 0, "old": 1})
    away = {"redis_url": own_server.url, "redis_operation_timeout": 1, "redis_max_retries": 0}
    settings = {"working_dir": str(working_dir), "redis_dual_write": True, **away}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"old": 1})
        storage.drop()
        storage.upsert({"new": 2})
        own_server.kill()
    variables = {name.upper(): str(value) for name, value in away.items()}
    assert found_on_json(working_dir, **variables) == {"expired": 0, "new": 2}
    assert not (working_dir / "kv_store_full_docs.changes").exists()
    write_file("full_docs", {"written on JSON": 3})
    own_server.start()
    assert found_on_json(working_dir, **variables) == {"written on JSON": 3}
