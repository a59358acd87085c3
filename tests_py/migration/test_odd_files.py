"""Files that a host can read, however odd: they are taken as ``JsonKVStorage`` takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from migration.conftest import Open
from nano_graphrag_redis import SyncRedisKVStorage, migration
from nano_graphrag_redis.exceptions import JsonFileError, StorageConfigError
from support.stores import json_store
from values.exact import difference

pytestmark = pytest.mark.any_server  # files are what is odd here


def put(directory: Path, text: str) -> Path:
    path = directory / "kv_store_full_docs.json"
    path.write_text(text, encoding="utf-8")
    return path


def as_the_host_reads_it(directory: Path) -> dict[str, Any]:
    with json_store("full_docs", {"working_dir": str(directory)}) as store:
        return {id: store.get_by_id(id) for id in sorted(store.all_keys())}


def on_the_server(settings: dict[str, Any]) -> dict[str, Any]:
    with SyncRedisKVStorage("full_docs", settings) as docs:
        ids = sorted(docs.all_keys())
        return dict(zip(ids, docs.get_by_ids(ids), strict=True))


def test_an_id_that_no_key_can_hold_is_listed_and_the_rest_copied(
    working_dir: Path, settings: dict[str, Any]
) -> None:
    put(working_dir, r'{"a": 1, "b\ud800": 2, "b\udc00\n": [3], "c": {"\ud83d\ude00": "\ude00"}}')
    assert set(as_the_host_reads_it(working_dir)) == {"a", "b\ud800", "b\udc00\n", "c"}
    plan = migration.plan(working_dir, settings)
    assert plan.files[0].ids == 4
    (migrated,) = migration.migrate(plan).namespaces
    assert (migrated.written, migrated.refused_count) == (2, 2)
    assert [refused.id for refused in migrated.refused] == [r"b\ud800", r"b\udc00\n"]
    assert "lone surrogate" in migrated.refused[0].reason
    expected = {"a": 1, "c": {"\U0001f600": "\ude00"}}
    assert difference(on_the_server(settings), expected) is None
    (verified,) = migration.verify(working_dir, settings).namespaces
    assert not verified.ok
    assert verified.missing == (r"b\ud800", r"b\udc00\n")
    assert (verified.ids_in_file, verified.missing_count) == (4, 2)
    assert verified.file_digest != verified.server_digest


def test_a_file_that_is_folded_keeps_an_id_that_no_key_can_hold(
    open_storage: Open, working_dir: Path
) -> None:
    path = put(working_dir, r'{"a": 1, "b\ud800": {"c": 2}}')
    with open_storage() as docs:
        docs.upsert({"a": 3})
        docs.drop()
        docs.upsert({"d": 4})
    assert json.loads(path.read_text()) == {"b\ud800": {"c": 2}, "d": 4}


@pytest.mark.parametrize(
    "text", ["null", "[]", " [ ]\n", "false", '""', "0", "-0.0", "{}", "{ }\n"]
)
def test_what_the_host_takes_for_empty_is_empty(
    open_storage: Open, working_dir: Path, settings: dict[str, Any], text: str
) -> None:
    path = put(working_dir, text)
    assert as_the_host_reads_it(working_dir) == {}
    assert migration.migrate(migration.plan(working_dir, settings)).ok
    assert migration.verify(working_dir, settings).ok
    with open_storage() as docs:
        docs.upsert({"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN, "b": [Infinity, -Infinity, 1e400, -0, -0.0, 1E5]}',
        '{"a": 1, "b": 2, "a": 3, "c": {"x": 1, "x": 2}}',
        '\r\n\t {"a"\n:1}\r\n   ',
        '{"": 1, "\\u0000": 2, "1": 3, "null": 4}',
        '{"a": "\\ud83d\\ude00 \\u2028 \u2028 \x7f"}',
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
        '{"a": ' + "9" * 4300 + "}",
    ],
    ids=["numbers", "twice", "white space", "ids", "escapes", "deep", "digits"],
)
def test_what_is_odd_is_taken_as_the_host_takes_it(
    working_dir: Path, settings: dict[str, Any], text: str
) -> None:
    put(working_dir, text)
    assert migration.migrate(migration.plan(working_dir, settings)).ok
    assert difference(on_the_server(settings), as_the_host_reads_it(working_dir)) is None
    assert migration.verify(working_dir, settings).ok


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\ufeff{}", "{1: 2}", "{'a': 1}", '{"a": 1,}', '{"a": 1} {}', '{"a": 01}',
        '{"a": +1}', '{"a": .5}', '{"a": nan}', '{"a": "\t"}', '{"a": "\\x"}',
        '{"a": ' + "9" * 4301 + "}", '["a"]', '"a"', "1",
    ],
)  # fmt: skip
def test_what_the_host_cannot_use_is_refused(
    working_dir: Path, settings: dict[str, Any], text: str
) -> None:
    put(working_dir, text)
    with pytest.raises((ValueError, AttributeError, TypeError)):
        as_the_host_reads_it(working_dir)
    with pytest.raises(JsonFileError, match=r"kv_store_full_docs\.json, byte \d+"):
        migration.plan(working_dir, settings)


def test_a_file_whose_namespace_no_key_can_hold_is_refused_before_anything_is_written(
    working_dir: Path, settings: dict[str, Any]
) -> None:
    put(working_dir, '{"a": 1}')
    (working_dir / "kv_store_z:y.json").write_text('{"b": 2}')
    with pytest.raises(StorageConfigError, match=r"kv_store_z:y\.json: .* --namespace"):
        migration.plan(working_dir, settings)
    assert on_the_server(settings) == {}
    plan = migration.plan(working_dir, settings, namespaces=["full_docs"])
    assert migration.migrate(plan).written == 1


@pytest.mark.parametrize("ttl", [-1, 9_000_000_000_000_001, 10**30])
def test_a_time_to_live_that_no_server_keeps_is_refused(
    ttl: int, working_dir: Path, settings: dict[str, Any]
) -> None:
    put(working_dir, '{"a": 1}')
    with pytest.raises(StorageConfigError, match=r"ttl=.* must be from 0 to"):
        migration.plan(working_dir, settings, ttl=ttl)
