"""The end of an interpreter whose server is silent: one deadline for all that was left open."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nano_graphrag_redis import migration
from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

TIMEOUT = 1.0
"""``redis_operation_timeout``."""
NAMESPACES = 20
"""So many that one deadline for each would take longer than the room that a busy machine gets."""

LEFT_OPEN = """
settings = {
    "redis_url": URL,
    "working_dir": sys.argv[2],
    "redis_dual_write": True,
    "redis_operation_timeout": float(sys.argv[3]),
    "redis_breaker_failures": 1000,  # open, it would make the later ones fail at once
}
names = [f"docs_{n}" for n in range(int(sys.argv[4]))]
storages = [SyncRedisKVStorage(name, settings) for name in names]
for name, docs in zip(names, storages):
    docs.upsert({"id": name})
os.kill(int(sys.argv[5]), signal.SIGSTOP)
print(time.monotonic())
"""


@pytest.mark.row(45)
def test_all_that_was_left_open_has_one_deadline_at_exit(
    row: Row, own_server: RedisServer, tmp_path: Path
) -> None:
    try:
        ended = run_script(LEFT_OPEN, own_server.url, tmp_path, TIMEOUT, NAMESPACES, own_server.pid)
        over = time.monotonic()
    finally:
        own_server.resume()
    assert ended.code == 0, ended
    assert "Traceback" not in ended.err, ended.err
    row.within("exit", over - float(ended.out), promised=TIMEOUT + 1)
    migration.fold(tmp_path, {"redis_url": own_server.url})
    names = [f"docs_{n}" for n in range(NAMESPACES)]
    files = {name: tmp_path / f"kv_store_{name}.json" for name in names}
    lost = [
        name
        for name, file in files.items()
        if not file.exists() or json.loads(file.read_text(encoding="utf-8")) != {"id": name}
    ]
    row.none("namespaces whose file lacks a write after a fold", len(lost), of=NAMESPACES)
