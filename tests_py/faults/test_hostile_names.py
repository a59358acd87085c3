"""Keys, ids, files and arguments that others have named: skipped or escaped, never in the way."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer.main

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage, exceptions
from nano_graphrag_redis.cli import main
from nano_graphrag_redis.cli.app import app
from nano_graphrag_redis.config import warn_once
from nano_graphrag_redis.printable import visible, visible_json
from support.hostile import TRICKS, foreign_keys, names, raw_in
from support.servers import RedisServer

from .conftest import OpenStorage
from .rows import Row

SEED = 42
CANARY = "c4n4ry-of-the-url"
PREFIX = b"nano_graphrag:"


class Ran:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def said(self) -> str:
        return self.out + self.err


Run = Callable[..., Ran]


@pytest.fixture
def run(server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> Iterator[Run]:
    """Runs a command in this process, with a credential in its URL."""
    server.client().execute_command(
        "ACL", "SETUSER", "ann", "on", f">{CANARY}", "~*", "&*", "+@all"
    )
    monkeypatch.setenv("REDIS_URL", server.url.replace("://", f"://ann:{CANARY}@"))

    def ran(*arguments: str, encoding: str = "utf-8") -> Ran:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            # `run` silences it in what was to be a process of its own.
            patch.setattr(logging.getLogger("nano_graphrag_redis"), "disabled", False)
            code = main(list(arguments))
        for stream in streams:
            stream.flush()
        out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
        logged = "\n".join(record.getMessage() for record in caplog.records)
        caplog.clear()
        return Ran(code, out, f"{err}{logged}")

    with caplog.at_level(logging.INFO, logger="nano_graphrag_redis"):
        yield ran
    server.client().execute_command("ACL", "DELUSER", "ann")


def commands(tmp_path: Path, id: str, namespace: str) -> dict[str, list[list[str]]]:
    """Every command, with hostile arguments; what is walked over is the whole keyspace."""
    files = str(tmp_path / "files")
    return {
        "doctor": [[], ["--acl"], ["--repair"]],
        "stats": [[]],
        "get": [["full_docs", id], [namespace, id], ["full_docs", "not\x1b there"], ["\x9bx", "y"]],
        "keys": [["full_docs"], [namespace], ["\x1b[2J"]],
        "changes": [[], ["full_docs"], [namespace], ["\x1b[2J"]],
        "drop": [[namespace], [namespace, "--yes"]],
        "prune": [[], ["--namespace", namespace], ["--model", "\x1b[2J", "--unparseable"],
                  ["--older-than", "\x1b[2J"]],
        "copy": [["--to-workspace", "\x1b[2J"], ["--to-workspace", "a:\x1b[2J"],
                 ["--to-workspace", "x", "--from-workspace", "\x9b", "--model", id]],
        "export": [["--to", str(tmp_path / "all"), "--dry-run"],
                   ["--to", str(tmp_path / "one"), "--namespace", "full_docs"]],
        "migrate": [["--from", files], ["--from", str(tmp_path / "no\x1b[2Jsuch")]],
        "verify": [["--from", files], ["--from", files, "--namespace", "\x1b[2J"]],
        "fold": [["--in", files]],
        "metrics": [["--once", "--dir", str(tmp_path / "counters")],
                    ["--dir", str(tmp_path / "no\x1b[2J")]],
        "server": [["status", str(tmp_path / "\x1b[2J")], ["status", f"embedded://ann:{CANARY}@h"]],
        "run": [[str(tmp_path / "no\x1b[2J.py")]],
    }  # fmt: skip


@pytest.mark.row(42)
def test_no_command_shows_a_character_raw_or_a_credential_or_stops_at_a_foreign_key(
    row: Row, server: RedisServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server.client()
    ids = names(SEED, row.pick(quick=12, full=200))
    spaces = [f"n{name.replace(':', '').replace('@', '')}" for name in ids]
    row.saw("seed", SEED)
    fill(client, ids, spaces)
    for id in ids:
        entry: Any = {"op": id, "who": id, "name": id, "count": "1", "ids": json.dumps([id])}
        client.xadd("nano_graphrag:@changes:full_docs", entry)
    files = tmp_path / "files"
    files.mkdir()
    (files / "kv_store_\x1b[2J\u202e.json").write_text(json.dumps(dict.fromkeys(ids, "a")))
    counters(tmp_path / "counters", spaces, monkeypatch)
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    given = commands(tmp_path, ids[0], spaces[0])
    assert set(given) == set(known), "a command without hostile arguments"
    tried = raw = credentials = 0
    for name, variants in given.items():
        for arguments in variants:
            for as_json in ([], ["--json"]) if name not in {"run", "server"} else ([],):
                fill(client, ids, spaces)
                ended = run(name, *arguments, *as_json)
                tried += 1
                raw += bool(raw_in(ended.said))
                credentials += CANARY in ended.said
                assert not raw_in(ended.said), (name, arguments, ended.said)
                assert CANARY not in ended.said, (name, arguments)
                assert "Traceback" not in ended.said
                assert ended.code in {0, 1, 2, 4, *([3] if name == "server" else [])}, (
                    name, arguments, ended.said)  # fmt: skip
                if as_json and ended.out and name != "metrics":
                    json.loads(ended.out)
    row.none("outputs with a raw control character", raw, of=tried)
    row.none("outputs with a credential", credentials, of=tried)


def fill(client: redis.Redis, ids: list[str], spaces: list[str]) -> None:
    client.flushall()
    for key in foreign_keys(PREFIX):
        client.set(key, b"\x1b[2J")
    client.lpush(PREFIX + b"@working_dir", b"\xff")
    client.zadd(PREFIX + b"@registry:full_docs", {b"\xff": 1})
    for id, space in zip(ids, spaces, strict=True):
        client.set(f"nano_graphrag:full_docs:{id}", json.dumps({"content": id}))
        client.set(f"nano_graphrag:{space}:{id}", json.dumps({"content": id}))
    client.set("nano_graphrag:full_docs:whole", json.dumps({"content": "x"}))
    client.set("nano_graphrag:text_chunks:of-it", json.dumps({"full_doc_id": "whole"}))
    client.set(f"nano_graphrag:text_chunks:{ids[0]}", b"\x1bno JSON\xff")
    client.lpush(f"nano_graphrag:text_chunks:{ids[1]}", b"\x1b")


def counters(directory: Path, spaces: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir()
    monkeypatch.setenv("REDIS_METRICS_DIR", str(directory))
    counts = {"operations": {}, "counts": {"hits": 1, "misses": 1}, "forgiven": {}}
    told = {"bounds": [], "namespaces": {name: counts.copy() for name in spaces}, "servers": {}}
    snapshot = {"format": 1, "written": 1.0, "ended": False, "snapshot": told}
    (directory / "1-1.json").write_text(json.dumps(snapshot))
    (directory / "\x1b[2J.json").write_text("{")


@pytest.mark.row(42)
def test_foreign_keys_are_skipped_and_named_and_what_is_ours_is_there(
    row: Row, server: RedisServer, run: Run, tmp_path: Path
) -> None:
    client = server.client()
    for key in foreign_keys(PREFIX):
        client.set(key, b"theirs")
    client.set("nano_graphrag:full_docs:mine", '{"content":"x"}')
    client.set("nano_graphrag:text_chunks:c", '{"full_doc_id":"mine"}')
    skipped = 7  # three of them lie beside the namespaces
    exported = run("export", "--to", str(tmp_path / "files"), "--json")
    assert exported.code == 0
    told = json.loads(exported.out)
    assert {file["namespace"]: file["ids"] for file in told["files"]} == {
        "full_docs": 1,
        "text_chunks": 1,
    }
    assert told["foreign_keys"]["count"] == skipped
    assert f"skipped {skipped} keys that no storage has made" in run("stats").out
    findings = json.loads(run("doctor", "--json").out)["findings"]
    (finding,) = [each for each in findings if each["check"] == "foreign-keys"]
    assert (finding["severity"], finding["count"]) == ("warning", skipped)
    listed = run("keys", "full_docs")
    assert listed.out == "mine\n"
    assert "are no ids and are skipped" in listed.err
    dropped = run("drop", "full_docs", "--yes")
    assert "deleted 1 id of full_docs" in dropped.out
    assert "are no ids and are skipped" in dropped.err
    left = set(client.keys("*"))
    row.none("foreign keys deleted", len(set(foreign_keys(PREFIX)) - left), of=len(left))


@pytest.mark.row(42)
def test_the_hosts_backup_meets_no_key_that_it_cannot_decode(
    row: Row, server: RedisServer, open_storage: OpenStorage, caplog: Any
) -> None:
    for key in foreign_keys(PREFIX):
        server.client().set(key, b"theirs")
    storage = open_storage()
    storage.sync.upsert({"mine": {"a": 1}})
    warn_once._said.clear()
    cursor, keys = asyncio.run(storage._redis_client.scan(0, match="*", count=1000))
    assert cursor == 0
    assert b"nano_graphrag:full_docs:mine" in keys
    undecodable = [key for key in keys if b"\xff" in key]
    assert "no UTF-8" in caplog.text
    row.none("keys that cannot be decoded", len(undecodable), of=len(keys))
    assert storage.sync.all_keys() == ["mine"]


ERRORS = [getattr(exceptions, name) for name in exceptions.__all__]


@pytest.mark.row(42)
@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_no_error_shows_a_character_raw(row: Row, kind: type[exceptions.StorageError]) -> None:
    tried = 0
    for trick in (*TRICKS, "\ud800", *names(SEED, 50)):
        error = kind(f"about {trick}", namespace=trick, id=trick, unconfirmed_ids=[trick])
        shown = "".join(traceback.format_exception(error)) + str(error)
        assert not raw_in(shown), repr(trick)
        assert (error.id, error.namespace, error.unconfirmed_ids) == (trick, trick, (trick,))
        tried += 1
    row.none("errors with a raw control character", 0, of=tried)


def errors_of(storage: SyncRedisKVStorage, id: str) -> Iterator[str]:
    """What calls on a hostile id raise, with their tracebacks."""
    calls: list[tuple[Callable[..., object], Any]] = [
        (storage.get_by_id, id),
        (storage.get_by_id, f"list{id}"),
        (storage.upsert, {id: {1, 2}}),
        (storage.upsert, {id: {"a": "\ud800"}}),
        (storage.upsert, {f"{id}\ud800": 1}),
    ]
    for call, argument in calls:
        error = raised_by(call, argument)
        if error is not None:
            yield "".join(traceback.format_exception(error))


def raised_by(call: Callable[..., object], argument: Any) -> exceptions.StorageError | None:
    try:
        call(argument)
    except exceptions.StorageError as error:
        return error
    return None


@pytest.mark.row(42)
def test_the_errors_of_real_calls_and_their_log_lines_show_escapes(
    row: Row, server: RedisServer, caplog: Any
) -> None:
    client = server.client()
    shown: list[Any] = []
    for number, id in enumerate(names(SEED, row.pick(quick=20, full=300))):
        space = f"n{number}{id.replace(':', '').replace('@', '')}"
        client.set(f"nano_graphrag:{space}:{id}", b"no JSON")
        client.lpush(f"nano_graphrag:{space}:list{id}", "x")
        for policy in ("raise", "miss"):
            settings = {"redis_url": server.url, "redis_outage_policy": policy}
            with SyncRedisKVStorage(space, settings) as storage:
                shown += errors_of(storage, id)
    shown += [record.getMessage() for record in caplog.records]
    raw = [text for text in shown if raw_in(text.replace("\x1b[2J", "\x1b"))]
    assert raw == []
    row.none("errors and log lines with a raw control character", len(raw), of=len(shown))


@pytest.mark.row(42)
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "utf-8"])
def test_a_stdout_of_another_encoding_replaces_what_it_cannot_say_and_keeps_the_code(
    row: Row, encoding: str, server: RedisServer, run: Run, tmp_path: Path
) -> None:
    ids = ["é", "日本", "😀", *TRICKS]
    client = server.client()
    fill(client, ids, [f"n{number}é日" for number in range(len(ids))])
    client.delete(*client.keys("nano_graphrag:text_chunks:*"))  # not to be read, let alone exported
    client.set("nano_graphrag:text_chunks:bad", b"no JSON")
    client.set("nano_graphrag:other:a", b"1")
    codes = {
        ("doctor",): 1,
        ("keys", "full_docs"): 0,
        ("get", "full_docs", "日本"): 0,
        ("get", "full_docs", "日本 that is not there"): 1,
        ("stats",): 0,
        ("export", "--to", str(tmp_path / "é日"), "--namespace", "other", "--dry-run"): 0,
    }
    for arguments, code in codes.items():
        for as_json in ([], ["--json"]):
            ended = run(*arguments, *as_json, encoding=encoding)
            assert ended.code == code, (arguments, ended.said)
            assert not raw_in(ended.said)
            if as_json and code == 0 and arguments[0] in {"keys", "get"}:
                exact = [*ids, "whole"] if arguments[0] == "keys" else {"content": "日本"}
                found = json.loads(ended.out)
                assert (sorted(found) if arguments[0] == "keys" else found) == (
                    sorted(exact) if arguments[0] == "keys" else exact
                )
    row.none("wrong exit codes", 0, of=len(codes))


def test_what_is_made_visible_twice_is_as_after_once_and_json_is_the_same_data() -> None:
    everything = [chr(number) for number in range(0x110000)]
    text = "".join(everything)
    assert not raw_in(visible(text))
    assert visible(visible(text)) == visible(text)
    assert json.loads(visible_json(everything)) == everything
    assert not raw_in(visible_json(everything))
    assert visible_json(everything, ascii_only=True).isascii()


def test_a_storage_shows_its_namespace_with_escapes(server: RedisServer) -> None:
    storage = RedisKVStorage("n\x1b[2J\u202e", {"redis_url": server.url})
    assert not raw_in(repr(storage))
    storage.sync.close()
