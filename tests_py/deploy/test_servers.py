"""The configurations, taken by real servers, and the users that are made for them."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis.acl import acl_rules
from nano_graphrag_redis.doctor import examine
from support.deployment import DEPLOY, Deployed, lines_of

SWITCHES = {
    name: True
    for name, field in RedisConfig.model_fields.items()
    if field.annotation is bool and name != "redis_cluster"
}
"""Every setting that is on or off; a new one is among them."""

EVERY_OPTION: dict[str, Any] = {
    **SWITCHES,
    "redis_workspace": "acme",
    "redis_shared_namespaces": "llm_response_cache",
    "redis_near_cache_mb": 1,
}
DEPLOYMENTS: list[dict[str, Any]] = [
    {"redis_url": "redis://localhost/1"},
    {"redis_url": "redis://one,redis://two", "redis_cluster": True},
    {"redis_durability": "fsync+replicas:1"},
    {"redis_durability": "replicas:1"},
    {"redis_durability": "snapshot"},
]


@pytest.fixture
def running(deployed: Deployed) -> Iterator[Deployed]:
    """The server, up."""
    with deployed:
        yield deployed


def asked(running: Deployed, *names: str) -> list[str]:
    operator = running.as_user("operator")
    return [str(operator.config_get(name)[name]) for name in names]


def test_the_append_only_file_is_on(running: Deployed) -> None:
    assert asked(running, "appendonly", "appendfsync") == ["yes", "everysec"]
    assert running.as_user("operator").info("persistence")["aof_enabled"] == 1


def test_no_document_can_be_evicted(running: Deployed) -> None:
    policy, memory = asked(running, "maxmemory-policy", "maxmemory")
    assert policy in {"noeviction", "volatile-lru"}
    assert int(memory) == 2 * 1024**3


def test_the_server_takes_every_line_of_the_file(running: Deployed) -> None:
    """Each is what the server answers when it is asked, whatever its spelling."""
    operator = running.as_user("operator")
    units = {"2gb": str(2 * 1024**3)}
    for line in lines_of(running.file):
        name, _, value = line.partition(" ")
        if name not in {"bind", "port", "dir", "aclfile", "include"}:
            assert operator.config_get(name)[name] == units.get(value, value), line


def test_only_the_cluster_s_file_makes_a_member(running: Deployed) -> None:
    enabled = asked(running, "cluster-enabled")[0]
    assert (running.file, enabled) in {("redis.conf", "no"), ("cluster.conf", "yes")}


def test_nobody_comes_in_without_a_password_but_the_health_check(running: Deployed) -> None:
    with pytest.raises(redis.AuthenticationError):
        running.client().ping()
    health = running.client(username="health", password="none")
    assert health.ping() is True
    for command in (["GET", "x"], ["INFO"], ["CONFIG", "GET", "*"], ["SCAN", "0"]):
        with pytest.raises(NoPermissionError):
            health.execute_command(*command)


def test_the_user_of_the_storage_reaches_its_own_keys_alone(running: Deployed) -> None:
    application = running.as_user("nano_graphrag")
    for command in (["GET", "other:key"], ["CONFIG", "GET", "*"], ["FLUSHALL"], ["KEYS", "*"]):
        with pytest.raises(NoPermissionError):
            application.execute_command(*command)


def test_the_user_of_the_storage_may_do_all_that_any_option_needs(secrets: Path) -> None:
    users = (secrets / "redis_users.acl").read_text(encoding="utf-8").splitlines()
    (granted,) = [set(line.split()) for line in users if line.startswith("user nano_graphrag ")]
    needed = {
        rule
        for deployment in DEPLOYMENTS
        for rule in acl_rules(RedisConfig(**EVERY_OPTION, **deployment), limits=True)
    }
    assert {rule for rule in needed if rule.startswith("+")} - granted == set()


def test_the_user_of_replication_may_replicate_and_no_more(running: Deployed) -> None:
    replica = running.as_user("replication")
    assert replica.ping() is True
    with pytest.raises(NoPermissionError):
        replica.get("nano_graphrag:full_docs:doc-1")


@pytest.mark.parametrize("deployed", ["redis.conf"], indirect=True)
def test_the_storage_works_and_what_it_wrote_is_there_after_a_crash(running: Deployed) -> None:
    settings = {
        "redis_url": running.url,
        "redis_username": "nano_graphrag",
        "redis_password": running.secret_of("nano_graphrag"),
        "redis_workspace": "acme",
        "redis_near_cache_mb": 1,
        "redis_registry": True,
    }
    with SyncRedisKVStorage("full_docs", settings) as docs:
        docs.upsert({"doc-1": {"content": "Marley was dead"}})
        # Asked of the file, so that the crash loses nothing that is waited for here.
        running.as_user("operator").config_set("appendfsync", "always")
        docs.upsert({"doc-2": {"content": "to begin with"}})
        running.restart()
        assert docs.get_by_ids(["doc-1", "doc-2"]) == [
            {"content": "Marley was dead"},
            {"content": "to begin with"},
        ]
        assert docs.get_stats()["key_count"] == 2
        docs.drop()
    assert running.as_user("operator").acl_log() == []


@pytest.mark.parametrize("deployed", ["redis.conf"], indirect=True)
def test_the_user_of_the_storage_may_examine_it(running: Deployed) -> None:
    settings: dict[str, Any] = {
        "redis_url": running.url,
        "redis_username": "nano_graphrag",
        "redis_password": running.secret_of("nano_graphrag"),
        "redis_registry": True,
    }
    with SyncRedisKVStorage("full_docs", settings) as docs:
        docs.upsert({"doc-1": {"content": "Marley was dead"}})
    assert "refused" not in {found.check for found in examine(RedisConfig(**settings))}


def test_the_directory_of_secrets_is_its_owner_s_and_its_files_are_the_containers(
    secrets: Path,
) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    made = {path.name for path in secrets.iterdir() if not path.name.startswith("users-for-")}
    assert made == {
        "grafana_password",
        "redis_operator_password",
        "redis_password",
        "redis_replication.conf",
        "redis_users.acl",
    }
    for name in made:
        assert stat.S_IMODE((secrets / name).stat().st_mode) == 0o644


def test_secrets_are_not_made_twice(secrets: Path) -> None:
    before = (secrets / "redis_password").read_text()
    again = subprocess.run(
        [DEPLOY / "make-secrets", secrets], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert (secrets / "redis_password").read_text() == before


def test_no_password_stands_among_the_users(secrets: Path) -> None:
    users = (secrets / "redis_users.acl").read_text()
    for file in ("redis_password", "redis_operator_password"):
        password = (secrets / file).read_text()
        assert len(password) == 48
        assert password not in users
