"""What is wrong with a server is found, by facts that a real server gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.conftest import Found
from nano_graphrag_redis import RedisConfig
from nano_graphrag_redis.doctor import Severity, examine
from support.conditions import eventually
from support.servers import RedisServer

KILOBYTES = 1024


def test_facts_are_told_of_a_healthy_server(healthy: RedisServer) -> None:
    facts = {f.check: f.title for f in examine(RedisConfig(redis_url=healthy.url))}
    assert "standalone" in facts["version"]
    assert "p99" in facts["latency"]
    assert "volatile-lru" in facts["eviction-policy"]
    assert "primary" in facts["replication"]
    assert {"append-only", "memory", "contents"} <= facts.keys()


def test_a_server_that_is_not_there_is_the_one_finding(healthy: RedisServer, found: Found) -> None:
    healthy.kill()
    (finding,) = found(redis_max_retries=0)
    assert (finding.check, finding.severity) == ("reach", Severity.ERROR)


def test_an_evicting_policy_is_found(healthy: RedisServer, found: Found) -> None:
    healthy.client().config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = found()
    assert (finding.check, finding.severity) == ("eviction-policy", Severity.ERROR)
    assert "allkeys-lru" in finding.title


def test_an_append_only_file_that_is_off_is_found(healthy: RedisServer, found: Found) -> None:
    healthy.client().config_set("appendonly", "no")
    (finding,) = found()
    assert (finding.check, finding.severity) == ("append-only", Severity.WARNING)


def test_memory_that_is_nearly_full_is_found(healthy: RedisServer, found: Found) -> None:
    client = healthy.client()
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", used + used // 50)
    (finding,) = found()
    assert (finding.check, finding.severity) == ("memory", Severity.ERROR)


def test_a_replica_whose_primary_is_gone_is_found(
    healthy: RedisServer, server_binary: Path
) -> None:
    with RedisServer(server_binary, appendonly="yes") as replica:
        client = replica.client()
        client.replicaof("127.0.0.1", healthy.port)
        eventually(lambda: client.info("replication")["master_link_status"] == "up")
        healthy.kill()
        eventually(lambda: client.info("replication")["master_link_status"] == "down")
        findings = examine(RedisConfig(redis_url=replica.url))
        (finding,) = [f for f in findings if f.severity is not Severity.OK]
    assert finding.check == "replication"
    assert "down" in finding.title


@pytest.fixture
def full_disk(server_binary: Path, tmp_path: Path) -> Path:
    """The server, with a limit to the size of its files that it sees as an error."""
    script = tmp_path / "server"
    script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 512\nexec {server_binary} \"$@\"\n")
    script.chmod(0o700)
    return script


def test_a_failed_write_of_the_append_only_file_is_found(full_disk: Path) -> None:
    with RedisServer(full_disk, appendonly="yes", auto_aof_rewrite_percentage="0") as server:
        client = server.client()

        def failed() -> bool:
            if client.info("persistence")["aof_last_write_status"] == "err":
                return True
            client.set("large", b"x" * 64 * KILOBYTES)
            return False

        eventually(failed)
        findings = examine(RedisConfig(redis_url=server.url))
        (finding,) = [f for f in findings if f.severity is not Severity.OK]
    assert (finding.check, finding.severity) == ("persistence-failed", Severity.ERROR)
    assert "append-only" in finding.title


def test_more_replicas_asked_for_than_there_are_is_found(
    healthy: RedisServer, found: Found
) -> None:
    (finding,) = found(redis_durability="replicas:1")
    assert (finding.check, finding.severity) == ("durability", Severity.ERROR)


def test_a_user_who_lacks_what_the_settings_need_is_found(
    healthy: RedisServer, found: Found
) -> None:
    client = healthy.client()
    rules = {"enabled": True, "nopass": True, "keys": ["*"]}
    client.acl_setuser("ann", **rules, commands=["+@all", "-zadd", "-zscan", "-bgsave"])
    login = {"redis_username": "ann", "redis_password": "any"}
    assert found(**login) == []
    (finding,) = found(**login, redis_registry=True)
    assert (finding.check, finding.severity) == ("rights", Severity.ERROR)
    assert "zadd, zscan" in finding.title


def test_a_user_who_may_not_ask_is_told_what_was_not_looked_at(
    healthy: RedisServer, found: Found
) -> None:
    healthy.client().config_set("maxmemory-policy", "allkeys-lru")
    rules = {"enabled": True, "nopass": True, "keys": ["nano_graphrag:*"]}
    needed = ["+@all", "-info", "-config", "-bgsave"]
    healthy.client().acl_setuser("ann", **rules, commands=needed)
    (finding,) = found(redis_username="ann", redis_password="any")
    assert (finding.check, finding.severity) == ("rights", Severity.WARNING)
