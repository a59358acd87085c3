"""What is wrong with a server is found, by facts that a real server gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from doctor.conftest import Found
from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis.cli.app import main
from nano_graphrag_redis.doctor import Severity, examine
from support.conditions import eventually
from support.peer import Peer
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


# What this user may do is found out by trying it, deletes too.
def test_no_key_of_anybody_is_tried_out(healthy: RedisServer) -> None:
    client = healthy.client()
    client.set("nano_graphrag:@doctor", "another program's")
    before = {key: client.dump(key) for key in client.scan_iter()}
    assert list(examine(RedisConfig(redis_url=healthy.url)))
    assert {key: client.dump(key) for key in client.scan_iter()} == before


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
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": ["*"]}
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
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": ["nano_graphrag:*"]}
    needed = ["+@all", "-info", "-config", "-bgsave"]
    healthy.client().acl_setuser("ann", **rules, commands=needed)
    (finding,) = found(redis_username="ann", redis_password="any")
    assert (finding.check, finding.severity) == ("rights", Severity.WARNING)
    assert "maxmemory-policy" in finding.title
    assert "another user" in finding.remedy


# A user of the rights that a storage needs saw nothing but NOPERM.
@pytest.mark.parametrize("lacks", ["type", "zrangebyscore"])
def test_what_a_refusal_keeps_from_view_is_said_beside_what_was_seen(
    healthy: RedisServer, found: Found, lacks: str
) -> None:
    settings = {"redis_url": healthy.url, "redis_registry": True}
    with SyncRedisKVStorage("full_docs", settings) as documents:
        documents.all_keys()
    client = healthy.client()
    client.config_set("maxmemory-policy", "allkeys-lru")
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": ["*"]}
    client.acl_setuser("ann", **rules, commands=["+@all", f"-{lacks}"])
    *rights, policy, refused = found(redis_username="ann", redis_password="any")
    assert [(each.check, each.severity) for each in rights] == [
        ("rights", Severity.WARNING) for _ in range(lacks == "type")
    ]
    assert policy.check == "eviction-policy"
    assert (refused.check, refused.severity) == ("refused", Severity.ERROR)
    assert f"'{lacks}' command" in refused.title
    assert "another user" in refused.remedy


MANAGED = ('rename-command INFO ""', 'rename-command CONFIG ""')


def test_what_a_server_without_info_and_config_hides_is_said_to_be_unknown(
    server_binary: Path,
) -> None:
    hidden: dict[str, Any] = {"appendonly": "no", "maxmemory_policy": "allkeys-lru"}
    with RedisServer(server_binary, config=MANAGED, **hidden) as server:
        findings = examine(RedisConfig(redis_url=server.url))
        (finding,) = [f for f in findings if f.severity is not Severity.OK]
    assert (finding.check, finding.severity) == ("rights", Severity.WARNING)
    for what in ("version", "maxmemory-policy", "memory", "append-only file", "replicas"):
        assert what in finding.title
    assert "INFO was refused" in finding.title
    assert str(server.port) in finding.title
    assert "where the server is managed" in finding.remedy


def test_a_storage_says_once_that_a_server_has_no_info(
    server_binary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(server_binary, config=MANAGED) as server:
        settings = {"redis_url": server.url}
        with (
            SyncRedisKVStorage("full_docs", settings) as documents,
            SyncRedisKVStorage("text_chunks", settings) as chunks,
        ):

            def lines() -> list[str]:
                documents.get_by_id("doc-1")
                chunks.get_by_id("chunk-1")
                return [each for each in caplog.messages if "does not have INFO" in each]

            eventually(lambda: len(lines()) > 0)
            assert len(lines()) == 1


def test_a_command_that_the_settings_need_and_the_server_lacks_is_found(
    server_binary: Path,
) -> None:
    without = ('rename-command ZADD ""',)
    with RedisServer(server_binary, config=without, maxmemory_policy="volatile-lru") as server:
        settings: dict[str, Any] = {"redis_url": server.url, "redis_registry": True}
        findings = examine(RedisConfig(**settings))
        (finding,) = [f for f in findings if f.severity is not Severity.OK]
    assert (finding.check, finding.severity) == ("rights", Severity.ERROR)
    assert "zadd, or the server does not have it" in finding.title


def test_facts_that_info_leaves_out_are_said_to_be_unknown() -> None:
    def terse(words: list[bytes]) -> bytes:
        answers = {
            b"INFO": b"$10\r\n# Section\n\r\n",
            b"PING": b"+PONG\r\n",
            b"SCAN": b"*2\r\n$1\r\n0\r\n*0\r\n",
        }
        return answers.get(words[0], b"$-1\r\n")

    with Peer(terse) as peer:
        findings = list(examine(RedisConfig(redis_url=peer.url)))
    unknown = {f.check for f in findings if f.severity is Severity.WARNING}
    assert unknown == {"version", "eviction-policy", "memory", "append-only", "replication"}
    assert all("not known" in f.title for f in findings if f.check in unknown)


INFO = {
    b"server": ["redis_version:7.2.4"],
    b"memory": [
        "used_memory:5", "maxmemory:0", "total_system_memory:9000", "maxmemory_policy:noeviction"
    ],
    b"persistence": ["aof_enabled:1", "aof_last_write_status:ok"],
    b"replication": ["role:master", "slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0"],
}  # fmt: skip
ODD = ["", "x", "-1", "1.5", "9" * 400, "9" * 5000, "\u0663", "=,=,,"]


# Proxies and compatible servers do: each of them ended the examination in a traceback.
@pytest.mark.parametrize("odd", ODD, ids=["empty", *ODD[1:4], "huge", "huger", "arabic", "signs"])
@pytest.mark.parametrize(
    "field",
    ["redis_version", "used_memory", "maxmemory", "total_system_memory", "slave0", "lag", "role"],
)
def test_odd_facts_in_info_are_said_to_be_unknown_and_end_nothing(field: str, odd: str) -> None:
    pattern = re.compile(rf"((?:^|,){field}[:=]).*")

    def answered(words: list[bytes]) -> bytes:
        if words[0] == b"INFO":
            lines = [pattern.sub(lambda found: found[1] + odd, line) for line in INFO[words[1]]]
            text = "\r\n".join(lines).encode()
            return b"$%d\r\n%b\r\n" % (len(text), text)
        answers = {b"PING": b"+PONG\r\n", b"SCAN": b"*2\r\n$1\r\n0\r\n*0\r\n"}
        return answers.get(words[0], b"$-1\r\n")

    with Peer(answered) as peer:
        made = {f.check: f for f in examine(RedisConfig(redis_url=peer.url))}
    assert {"version", "memory", "append-only", "replication", "contents"} <= made.keys()
    unknown = {"redis_version": "version", "used_memory": "memory", "total_system_memory": "memory"}
    if field in unknown and not (field == "redis_version" and odd == "1.5"):
        assert "not known" in made[unknown[field]].title
    if field == "slave0":
        assert "1 of 1 replicas" in made["replication"].title


# SCAN may tell a key twice, where the server's table grows or shrinks meanwhile, or slots move.
def test_a_key_that_the_walk_meets_twice_is_counted_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answered(words: list[bytes]) -> bytes:
        if words[0] == b"SCAN":
            ids, cursor = (b"ab", b"7") if words[1] == b"0" else (b"bc", b"0")
            keys = b"".join(b"$25\r\nnano_graphrag:full_docs:%c\r\n" % id for id in ids)
            return b"*2\r\n$1\r\n%b\r\n*2\r\n%b" % (cursor, keys)
        if words[0] == b"MGET":
            return b"*%d\r\n%b" % (len(words) - 1, b"$2\r\n{}\r\n" * (len(words) - 1))
        answers = {b"TYPE": b"+string\r\n", b"PTTL": b":-1\r\n", b"GET": b"$2\r\n{}\r\n"}
        return answers.get(words[0], b"$-1\r\n")

    with Peer(answered) as peer:
        (contents,) = (f for f in examine(RedisConfig(redis_url=peer.url)) if f.check == "contents")
        assert main(["stats", "--json", "--url", peer.url]) == 0
    assert contents.title == "keys: 3 in full_docs"
    counted = {
        each["namespace"]: each["keys"]
        for each in json.loads(capsys.readouterr().out)["namespaces"]
    }
    assert counted["full_docs"] == 3
