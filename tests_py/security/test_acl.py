"""The line of the least-privilege user: it permits all that is needed, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.acl import PLACEHOLDER, acl_line
from nano_graphrag_redis.typed_dicts import NearCacheStats
from support.conditions import eventually
from support.host import ROOT
from support.servers import RedisServer
from support.users import make_user, refusals, server_version

NAMESPACE = "full_docs"

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "database": {"redis_url": "/3"},
    "workspace": {"redis_workspace": "acme"},
    "shared": {"redis_workspace": "acme", "redis_shared_namespaces": [NAMESPACE]},
    "registry": {"redis_registry": True},
    "shared registry": {
        "redis_workspace": "acme",
        "redis_shared_namespaces": [NAMESPACE],
        "redis_registry": True,
    },
    "near cache": {"redis_near_cache_mb": 1},
    "sliding": {"redis_ttl": {NAMESPACE: 1_000}, "redis_ttl_sliding": True},
    "shared sliding": {
        "redis_workspace": "acme",
        "redis_shared_namespaces": [NAMESPACE],
        "redis_ttl": {NAMESPACE: 1_000},
        "redis_ttl_sliding": True,
    },
    "changes": {"redis_changes": True},
    "shared changes": {
        "redis_workspace": "acme",
        "redis_shared_namespaces": [NAMESPACE],
        "redis_changes": True,
    },
    "glob characters": {"redis_key_prefix": "a*[b]?\\c^-d"},
    "quotes": {"redis_workspace": 'it\'s "acme"'},
    "spaces": {"redis_workspace": "my graph\t\n"},
    "other scripts": {"redis_key_prefix": "граф\u00a0\u2028"},
}


@pytest.fixture
def server(server_binary: Path) -> Iterator[RedisServer]:
    """A server of this test's own, whose statistics nobody else adds to."""
    with RedisServer(server_binary) as running:
        yield running


@pytest.fixture(params=list(DEPLOYMENTS))
def settings(request: pytest.FixtureRequest, server: RedisServer) -> dict[str, Any]:
    deployment = DEPLOYMENTS[request.param]
    return deployment | {
        "redis_url": server.url + deployment.get("redis_url", ""),
        "redis_username": "graph",
        "redis_password": PLACEHOLDER,
    }


def use(settings: dict[str, Any]) -> None:
    """Every call of a storage, and what it does by itself."""
    with SyncRedisKVStorage(NAMESPACE, settings) as storage:
        storage.upsert({str(number): {"n": number} for number in range(3)})
        assert storage.get_by_ids(["0", "1", "x"]) == [{"n": 0}, {"n": 1}, None]
        assert storage.filter_keys(["0", "x"]) == {"x"}
        storage.index_done_callback()
        if settings.get("redis_near_cache_mb"):

            def near() -> NearCacheStats:
                stats = storage.get_stats(light=True)["near_cache"]
                assert stats is not None
                return stats

            eventually(lambda: bool(near()["tracking"]))
            eventually(lambda: storage.get_by_id("0") == {"n": 0} and near()["hits"] > 0)
        if settings.get("redis_ttl_sliding"):
            # What was written with a shorter life than the storage gives is late in it.
            shorter = settings | {"redis_ttl": {NAMESPACE: 100}}
            with SyncRedisKVStorage(NAMESPACE, shorter) as writer:
                writer.upsert({"late": 1})
            assert storage.get_by_id("late") == 1
            eventually(lambda: storage.get_stats(light=True)["ttl_renewals"] == 1)
            assert storage.delete_by_id("late") is True
        assert (storage.get_stats()["sample_memory_usage"] or 0) > 0
        assert storage.check_health()
        assert storage.delete_by_id("0") is True
        assert sorted(storage.all_keys()) == ["1", "2"]
        storage.drop()
        assert storage.all_keys() == []
    if settings.get("redis_changes"):
        core = BlockingKvStore(RedisConfig(**settings).core_settings(NAMESPACE))
        eventually(lambda: len(core.changes(None, 10)) == 3)
        assert len(core.changes("0-0", 10)) == 3
        core.close()


def test_nothing_of_ours_is_refused_to_the_user(
    server: RedisServer, settings: dict[str, Any]
) -> None:
    make_user(server, settings)
    use(settings)
    # Statistics do without it, and say nothing about the server's memory.
    assert refusals(server) <= {("command", "info")}


@pytest.mark.any_server
@pytest.mark.parametrize(
    "more", [{}, {"redis_workspace": "acme"}, {"redis_registry": True}], ids=str
)
def test_reports_are_replaced_at_once_by_the_user(
    server: RedisServer, more: dict[str, Any]
) -> None:
    settings = {
        "redis_url": server.url,
        "redis_username": "graph",
        "redis_password": PLACEHOLDER,
        "redis_deferred_drop": True,
        **more,
    }
    make_user(server, settings)
    with SyncRedisKVStorage("community_reports", settings) as reports:
        reports.upsert({"old": 1})
        reports.drop()
        reports.upsert({"new": 1})
        reports.index_done_callback()
        assert reports.all_keys() == ["new"]
    assert "cmdstat_exec" in server.client().info("commandstats")
    assert refusals(server) <= {("command", "info")}


def test_every_command_that_is_granted_is_used(
    server: RedisServer, settings: dict[str, Any]
) -> None:
    rules = make_user(server, settings)
    admin = server.client(single_connection_client=True)
    admin.config_resetstat()
    use(settings)
    statistics: Any = admin.info("commandstats")
    used = {name.removeprefix("cmdstat_") for name in statistics}
    granted = {rule[1:] for rule in rules if rule.startswith("+")}
    # Asked when a registry is counted, swept or mended, and by the command.
    assert granted - used <= {"zcount", "zscore", "zscan", "pttl", "exists", "type", "persist"}


@pytest.mark.parametrize(
    "command",
    [
        ["GET", "other:full_docs:1"],
        ["GET", "nano_graphrag2:full_docs:1"],
        ["GET", "nano_graphrag@acme:full_docs:1"],
        ["FLUSHALL"],
        ["CONFIG", "GET", "requirepass"],
        ["BGSAVE"],
        ["INFO"],
        ["KEYS", "*"],
        ["EVAL", "return 1", "0"],
        ["CLIENT", "LIST"],
        ["ACL", "LIST"],
        ["PUBLISH", "channel", "text"],
    ],
    ids=" ".join,
)
def test_the_user_may_do_nothing_else(server: RedisServer, command: list[str]) -> None:
    make_user(server, {"redis_url": server.url})
    client = server.client(username="graph", password=PLACEHOLDER)
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_the_line_is_read_by_the_server_as_it_stands(
    server_binary: Path, server: RedisServer, settings: dict[str, Any]
) -> None:
    line = acl_line(RedisConfig(**settings), server=server_version(server))
    in_configuration = line.replace("ACL SETUSER", "user", 1)
    with RedisServer(server_binary, config=(in_configuration,)) as other:
        url = re.sub(r":\d+", f":{other.port}", settings["redis_url"])
        use(settings | {"redis_url": url})
        assert refusals(other) <= {("command", "info")}


def test_the_line_names_the_user_and_no_password() -> None:
    users: list[tuple[dict[str, Any], str]] = [
        ({}, "nano_graphrag"),
        ({"redis_username": "ann", "redis_password": "s3cret"}, "ann"),
        ({"redis_url": "redis://bob:s3cret@cache"}, "bob"),
    ]
    for settings, name in users:
        line = acl_line(RedisConfig(**settings))
        assert line.startswith(f"ACL SETUSER {name} reset on >{PLACEHOLDER} ~nano_graphrag:* +")
        assert "s3cret" not in line
    assert acl_line(RedisConfig(), username="eve").startswith("ACL SETUSER eve ")


def test_the_page_shows_the_line_of_the_default_settings() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert f"\n    {acl_line(RedisConfig())}\n" in page
