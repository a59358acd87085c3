"""Every command does its work as the least-privilege user, and is refused nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.acl import PLACEHOLDER
from nano_graphrag_redis.cli.app import app
from support.servers import RedisServer
from support.users import make_user, refusals

Command = Callable[..., "subprocess.CompletedProcess[str]"]

RUNS: dict[str, list[str]] = {
    "doctor": ["", "--repair"],
    "stats": [""],
    "metrics": ["--once --dir ."],
    "migrate": ["--from cache", "--from cache --dry-run"],
    "verify": ["--from cache"],
    "export": ["--to files"],
    "fold": ["--in logged"],
    "keys": ["full_docs", "nothing"],
    "changes": ["", "full_docs"],
    "get": ["full_docs doc-1", "full_docs nothing"],
    "prune": ["", "--older-than 1m", "--unparseable", "--dry-run"],
    "copy": ["--to-workspace acme"],
    "drop": ["llm_response_cache --yes"],
}
"""The options of each command that asks a server."""

WITHOUT_A_SERVER = {"server", "run"}

# What `changes` asks for is granted where there are some.
PLAIN: dict[str, Any] = {"redis_changes": True}
EVERYTHING: dict[str, Any] = {
    **PLAIN,
    "redis_registry": True,
    "redis_near_cache_mb": 1,
    "redis_deferred_drop": True,
    "redis_ttl_sliding": True,
}


@pytest.fixture
def own_server(server_binary: Path) -> Iterator[RedisServer]:
    """One of this test's own, whose log of refusals nobody else adds to."""
    with RedisServer(server_binary, appendonly="yes") as running:
        yield running


@pytest.mark.parametrize("settings", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_every_command_does_its_work_as_the_least_privilege_user(
    own_server: RedisServer, command: Command, tmp_path: Path, settings: dict[str, Any]
) -> None:
    asked = settings | {"redis_ttl": {"llm_response_cache": 1000}}
    make_user(own_server, asked)
    client = own_server.client()
    # The other workspace of `copy`, which the line of one workspace does not open.
    client.execute_command("ACL", "SETUSER", "graph", "~nano_graphrag@acme:*")
    fill(own_server, asked)
    client.expire("nano_graphrag:full_docs:doc-1", 1000)
    for directory, name in (("cache", "kv_store_text_chunks.json"), ("logged", "kv_store_x.json")):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / name).write_text('{"c": {"content": "c", "full_doc_id": "doc-1"}}')
    (tmp_path / "logged" / "kv_store_x.changes").write_text('["set?","c"]\n')
    environ = {
        "REDIS_URL": own_server.url,
        "REDIS_USERNAME": "graph",
        "REDIS_PASSWORD": PLACEHOLDER,
    }
    environ |= {name.upper(): json.dumps(value) for name, value in settings.items()}
    environ["REDIS_TTL_LLM_RESPONSE_CACHE"] = "1000"
    named = set(get_command(app).commands) - WITHOUT_A_SERVER  # type: ignore[attr-defined]
    assert named == set(RUNS)
    for name, runs in RUNS.items():
        for options in runs:
            ended = command(name, *options.split(), **environ)
            said = f"{name} {options}: {ended.stdout}{ended.stderr}"
            assert "Traceback" not in said
            assert ended.returncode in {0, 1}, said
            if name == "doctor":  # it tries what the user may do
                assert "not everything was looked at" not in said
                assert "this user may not call" not in said
                client.acl_log_reset()
            # Statistics and findings do without it, and say so.
            assert refusals(own_server) <= {("command", "info")}, said
    assert client.ttl("nano_graphrag:full_docs:doc-1") == -1


def fill(server: RedisServer, settings: dict[str, Any]) -> None:
    """A document with its chunk, and answers of which one is a minute old and one of no use."""
    contents = {
        "full_docs": {"doc-1": {"content": "Marley was dead"}},
        "text_chunks": {"chunk-1": {"content": "Marley was dead", "full_doc_id": "doc-1"}},
        "llm_response_cache": {"a": {"return": "humbug", "model": "m"}, "b": {"return": ""}},
    }
    for namespace, values in contents.items():
        with SyncRedisKVStorage(namespace, {"redis_url": server.url, **settings}) as storage:
            storage.upsert(values)
            storage.all_keys()  # makes a registry, where one is kept
    server.client().pexpire("nano_graphrag:llm_response_cache:a", 500_000)
