"""``changes``: what redis_changes has recorded, for a person and for a program."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from nano_graphrag_redis import SyncRedisKVStorage
from support.cluster import RedisCluster
from support.conditions import eventually
from support.peer import Peer
from support.servers import RedisServer

Command = Callable[..., "subprocess.CompletedProcess[str]"]

WHO = f"{socket.gethostname()}:{os.getpid()}"


def written(server: RedisServer, namespace: str, *documents: dict[str, Any], **more: Any) -> None:
    """Writes each as a call of its own, and waits for the entries."""
    settings = {"redis_url": server.url, "redis_changes": True, **more}
    root = f"nano_graphrag@{more['redis_workspace']}" if more else "nano_graphrag"
    key = f"{root}:@changes:{namespace}"
    client = server.client()
    before: Any = client.xlen(key)
    with SyncRedisKVStorage(namespace, settings) as store:
        for document in documents:
            store.upsert(document)
        eventually(lambda: client.xlen(key) == before + len(documents))


def test_a_line_says_when_where_who_and_what(command: Command, server: RedisServer) -> None:
    written(server, "full_docs", {"one": 1}, {f"d{n}": n for n in range(12)})
    ended = command("changes", "--url", server.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    first, second = ended.stdout.splitlines()
    when, rest = first.split(" ", 1)
    assert when.endswith("Z")
    assert rest == f"full_docs {WHO} upsert 1 id: one"
    assert second.endswith(f" upsert 12 ids: {' '.join(f'd{n}' for n in range(10))} and 2 more")


def test_json_has_every_entry_of_all_namespaces_in_their_order(
    command: Command, server: RedisServer
) -> None:
    written(server, "full_docs", {"one": 1})
    written(server, "text_chunks", {"two": 2, "three": 3})
    written(server, "full_docs", {"other": 1}, redis_workspace="acme")
    told = json.loads(command("changes", "--url", server.url, "--json").stdout)
    assert [(each["namespace"], each["count"], each["ids"]) for each in told] == [
        ("full_docs", 1, ["one"]),
        ("text_chunks", 2, ["two", "three"]),
    ]
    assert {each["who"] for each in told} == {WHO}
    assert {(each["operation"], each["name"]) for each in told} == {("upsert", None)}
    last = json.loads(command("changes", "--url", server.url, "--json", "--last", "1").stdout)
    assert last == told[1:]
    one = json.loads(command("changes", "--url", server.url, "--json", "full_docs").stdout)
    assert one == told[:1]
    acme = command("changes", "--url", server.url, "--workspace", "acme", "--json")
    assert [each["ids"] for each in json.loads(acme.stdout)] == [["other"]]


def test_nothing_recorded_is_said_and_exits_1(command: Command, server: RedisServer) -> None:
    ended = command("changes", "--url", server.url)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "no changes were recorded: set REDIS_CHANGES=on\n"
    assert json.loads(command("changes", "--url", server.url, "--json").stdout) == []


@pytest.mark.parametrize("options", [(), ("--json",)], ids=" ".join)
def test_what_others_wrote_reaches_no_terminal_raw(
    command: Command, server: RedisServer, redis_client: redis.Redis, options: tuple[str, ...]
) -> None:
    hostile = "\x1b]0;title\x07\u202e\n\x9b2J"
    ids = json.dumps([hostile, 7, None])
    key = "nano_graphrag:@changes:full_docs"
    redis_client.xadd(key, {"op": hostile, "who": hostile, "count": "9" * 400, "ids": ids})
    redis_client.xadd(key, {"\xff": "x", "ids": "[" * 100_000, "count": "\u0663"})
    redis_client.xadd(key, {"x": "y"}, id=f"{2**63}-0")
    ended = command("changes", "--url", server.url, *options)
    assert ended.returncode == 0, ended.stderr
    raw = {c for c in ended.stdout if not c.isprintable()} - {"\n"}
    assert raw == set()
    if not options:
        assert len(ended.stdout.splitlines()) == 3


def test_follow_prints_what_comes_until_it_is_interrupted(
    environ: dict[str, str], server: RedisServer
) -> None:
    written(server, "full_docs", {"before": 1})
    process = subprocess.Popen(
        [sys.executable, "-m", "nano_graphrag_redis", "changes", "--follow", "--json"],
        env=environ | {"REDIS_URL": server.url}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ids"] == ["before"]
        written(server, "full_docs", {"after": 1}, {"last": 2})
        assert json.loads(process.stdout.readline())["ids"] == ["after"]
        assert json.loads(process.stdout.readline())["ids"] == ["last"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_key_of_another_type_hides_no_other_stream(
    command: Command, server: RedisServer, redis_client: redis.Redis
) -> None:
    written(server, "full_docs", {"one": 1})
    redis_client.lpush("nano_graphrag:@changes:a", "x")
    ended = command("changes", "--url", server.url)
    assert ended.returncode == 1
    assert ended.stdout.endswith(" upsert 1 id: one\n")
    assert "(namespace 'a')" in ended.stderr
    alone = command("changes", "a", "--url", server.url)
    assert (alone.returncode, alone.stdout) == (4, "")


def test_follow_waits_for_a_server_that_goes_away(
    environ: dict[str, str], server_binary: Path
) -> None:
    with RedisServer(server_binary) as own_server:
        follow_through_an_outage(environ, own_server)


def follow_through_an_outage(environ: dict[str, str], own_server: RedisServer) -> None:
    """Follows the stream of a server that is killed and started again."""
    written(own_server, "full_docs", {"before": 1})
    process = subprocess.Popen(
        [sys.executable, "-m", "nano_graphrag_redis", "changes", "--follow", "--json"],
        env=environ | {"REDIS_URL": own_server.url, "REDIS_MAX_RETRIES": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["ids"] == ["before"]
        own_server.kill()
        assert json.loads(process.stderr.readline())["error"] == "StorageUnavailableError"
        own_server.start()
        written(own_server, "full_docs", {"after": 1})
        assert json.loads(process.stdout.readline())["ids"] == ["after"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


@contextmanager
def following(environ: dict[str, str], url: str) -> Iterator[subprocess.Popen[str]]:
    """`changes --follow --json`, until it is interrupted."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nano_graphrag_redis", "changes", "--follow", "--json"],
        env=environ | {"REDIS_URL": url, "REDIS_MAX_RETRIES": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


# A writer was faster than the reader: nobody was told of what the stream had cut off.
def test_follow_says_that_entries_were_cut_off_before_it_had_read_them(
    environ: dict[str, str], server: RedisServer, redis_client: redis.Redis
) -> None:
    written(server, "full_docs", {"before": 1})
    with following(environ, server.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["ids"] == ["before"]
        process.send_signal(signal.SIGSTOP)
        with redis_client.pipeline(transaction=False) as several:
            for number in range(3000):
                entry: dict[Any, Any] = {"who": "w", "ids": f'["{number}"]'}
                several.xadd(
                    "nano_graphrag:@changes:full_docs", entry, maxlen=2500, approximate=False
                )
            several.execute()
        process.send_signal(signal.SIGCONT)
        shown = [json.loads(process.stdout.readline())["ids"] for _ in range(2500)]
        assert shown == [[str(number)] for number in range(500, 3000)]
        told = json.loads(process.stderr.readline())
        assert "changes of full_docs were cut off" in told["message"]


# As on a cluster whose one shard is away: what was read of the others was thrown away.
def test_follow_shows_a_stream_beside_one_whose_server_does_not_answer(
    environ: dict[str, str],
) -> None:
    ids = ["1-0"]

    def answered(words: list[bytes]) -> bytes | None:
        if words[0] == b"SCAN":
            return array(bulk("0"), array(*(bulk(f"nano_graphrag:@changes:{n}") for n in "ab")))
        if words[0] not in {b"XRANGE", b"XREVRANGE"}:
            return b"$-1\r\n"
        if words[0] == b"XRANGE" and words[1].endswith(b":b"):
            return None
        after = words[2].decode().removeprefix("(")
        later = [id for id in ids if words[0] == b"XREVRANGE" or id > after]
        return array(*(array(bulk(id), array(bulk("who"), bulk(id))) for id in later))

    with Peer(answered) as peer, following(environ, peer.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in "ab":
            assert json.loads(process.stdout.readline())["id"] == "1-0"
        ids.append("2-0")
        assert json.loads(process.stdout.readline())["id"] == "2-0"
        assert json.loads(process.stderr.readline())["error"] == "StorageUnavailableError"
        ids.append("3-0")
        assert json.loads(process.stdout.readline())["id"] == "3-0"


# The walk over the cluster failed for the part that is away, and nothing was shown.
@pytest.mark.any_server
def test_the_streams_of_the_part_of_a_cluster_that_answers_are_shown(
    command: Command, server_binary: Path
) -> None:
    options: dict[str, Any] = {"replicas": False, "cluster_require_full_coverage": "no"}
    with RedisCluster(server_binary, **options) as cluster:
        keys = [f"nano_graphrag:@changes:{name}" for name in ("full_docs", "community_reports")]
        for key in keys:
            cluster.client().xadd(key, {"op": "upsert", "who": "w", "ids": f'["of {key}"]'})
        away, stays = keys
        assert cluster.primary_of(away) is not cluster.primary_of(stays)
        cluster.primary_of(away).kill()
        settings = {"REDIS_CLUSTER": "true", "REDIS_MAX_RETRIES": "0"}
        ended = command("changes", "--url", cluster.url, "--json", **settings)
        alone = command("changes", "full_docs", "--url", cluster.url, **settings)
    assert ended.returncode == 3, ended.stderr
    assert [each["ids"] for each in json.loads(ended.stdout)] == [[f"of {stays}"]]
    assert json.loads(ended.stderr)["error"] == "StorageUnavailableError"
    assert (alone.returncode, alone.stdout) == (3, "")


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


def array(*parts: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def test_what_the_command_drops_is_recorded_as_deleted(
    command: Command, server: RedisServer
) -> None:
    written(server, "full_docs", {"one": 1})
    command("drop", "full_docs", "--yes", "--url", server.url, REDIS_CHANGES="on")
    told = json.loads(command("changes", "--url", server.url, "--json").stdout)
    assert [(each["operation"], each["ids"]) for each in told] == [
        ("upsert", ["one"]),
        ("delete", ["one"]),
    ]
