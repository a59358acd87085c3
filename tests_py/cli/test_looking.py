"""A command that looks leaves every key on the server as it was, the registries among them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.conditions import eventually
from support.servers import RedisServer

Command = Callable[..., "subprocess.CompletedProcess[str]"]

NAMESPACE = "llm_response_cache"

LOOKING = [
    "doctor",
    "stats",
    "verify --from cache",
    "migrate --from cache --dry-run",
    "export --to files",
    f"keys {NAMESPACE}",
    f"get {NAMESPACE} new",
    f"get {NAMESPACE} nothing",
    "changes",
    "prune --dry-run",
    "prune --older-than 1m --dry-run",
    "copy --to-workspace acme --dry-run",
]


# `keys` and `prune --dry-run` made a registry, and took out of one what had expired.
@pytest.mark.parametrize("kept", [True, False], ids=["a registry", "none yet"])
def test_a_command_that_looks_changes_nothing_on_the_server(
    command: Command, server: RedisServer, tmp_path: Path, kept: bool
) -> None:
    settings = {"redis_url": server.url, "redis_registry": kept}
    client = server.client()
    for id, ttl in (("old", 1), ("new", 1000)):
        with SyncRedisKVStorage(NAMESPACE, settings | {"redis_ttl": {NAMESPACE: ttl}}) as storage:
            storage.upsert({id: {"return": id, "model": "m"}})
            storage.all_keys()
    eventually(lambda: not client.exists(f"nano_graphrag:{NAMESPACE}:old"))
    now = time.time()
    eventually(lambda: time.time() > now + 1)  # the registry counts seconds
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"kv_store_{NAMESPACE}.json").write_text("{}")
    before = {key: client.dump(key) for key in client.scan_iter()}
    assert len(before) == 1 + kept
    environ = {"REDIS_REGISTRY": "on", "REDIS_TTL_LLM_RESPONSE_CACHE": "1000"}
    for asked in LOOKING:
        ended = command(*asked.split(), "--url", server.url, **environ)
        assert ended.returncode in {0, 1}, f"{asked}: {ended.stderr}"
        assert {key: client.dump(key) for key in client.scan_iter()} == before, asked
