"""``export``: the host's own files, and what it costs when something goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from migration.conftest import WriteFile
from nano_graphrag_redis import SyncRedisKVStorage, migration
from nano_graphrag_redis.exceptions import CorruptValueError
from support.stores import json_store

VALUES: dict[str, Any] = {
    'doc-\u00e9\n"': {"content": "\u201cHumbug\u201d\u2028", "n": [1, 2.5, 1e300, -0.0, 10**40]},
    "doc-b": {"deep": {"er": [{}, [], [[1]]]}, "empty": ""},
    "doc-a": None,
    "doc-\U0001f384": [float("inf"), True, False],
    "": 1,
}

Settings = dict[str, Any]


def test_a_file_is_what_the_host_writes_with_ids_sorted(
    working_dir: Path, settings: Settings
) -> None:
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert(VALUES)
    done = migration.export(working_dir, settings)
    (file,) = done.files
    expected = json.dumps(dict(sorted(VALUES.items())), indent=2, ensure_ascii=False)
    assert file.path.read_text(encoding="utf-8") == expected
    assert (file.namespace, file.ids, file.size) == ("full_docs", 5, len(expected.encode()))
    with json_store("full_docs", {"working_dir": str(working_dir)}) as host:
        assert host.get_by_ids(VALUES) == list(VALUES.values())


def test_there_and_back_is_the_same_file(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    path = write_file("full_docs", dict(sorted(VALUES.items())))
    before = path.read_bytes()
    migration.migrate(migration.plan(working_dir, settings))
    migration.export(working_dir / "back", settings)
    assert (working_dir / "back" / path.name).read_bytes() == before
    assert path.read_bytes() == before


def test_more_ids_than_one_page_are_all_there_once_and_sorted(
    working_dir: Path, settings: Settings
) -> None:
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({f"doc-{n}": "x" * (n % 700) for n in range(5000)})
    told: list[migration.Progress] = []
    (file,) = migration.export(working_dir, settings, progress=told.append).files
    written = json.loads(file.path.read_text())
    assert len(written) == file.ids == 5000
    assert list(written) == sorted(written)
    assert {step.step for step in told} == {"list", "write"}
    assert told[-1].done == told[-1].total == 5000


def test_every_namespace_of_the_keyspace_is_written_and_no_other(
    working_dir: Path, settings: Settings, redis_client: Redis
) -> None:
    acme = settings | {
        "redis_workspace": "acme",
        "redis_shared_namespaces": "llm_response_cache",
        "redis_registry": True,
    }
    for namespace in ("full_docs", "llm_response_cache", "of_my_own"):
        with SyncRedisKVStorage(namespace, acme) as storage:
            storage.upsert({"a": namespace})
    with SyncRedisKVStorage("text_chunks", settings) as other:
        other.upsert({"a": "of another graph"})
    redis_client.set("else", "1")
    done = migration.export(working_dir, acme)
    found = {file.namespace: json.loads(file.path.read_text()) for file in done.files}
    assert found == {n: {"a": n} for n in ("full_docs", "llm_response_cache", "of_my_own")}


def test_a_namespace_that_was_named_and_is_empty_is_an_empty_file(
    working_dir: Path, settings: Settings
) -> None:
    (file,) = migration.export(working_dir, settings, namespaces=["full_docs"]).files
    assert file.path.read_text() == "{}"


def test_a_dry_run_counts_and_writes_nothing(working_dir: Path, settings: Settings) -> None:
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert(VALUES)
    (file,) = migration.export(working_dir / "none", settings, dry_run=True).files
    assert (file.ids, file.size) == (5, 0)
    assert not (working_dir / "none").exists()


def test_a_corrupt_value_leaves_the_file_as_it_was(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    path = write_file("full_docs", {"a": 1})
    redis_client.set("nano_graphrag:full_docs:b", "{")
    with pytest.raises(CorruptValueError, match=r"full_docs.*'b'"):
        migration.export(working_dir, settings)
    assert json.loads(path.read_text()) == {"a": 1}


def test_who_may_read_the_file_stays_as_it_was(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    path = write_file("full_docs", {})
    path.chmod(0o640)
    migration.export(working_dir, settings, namespaces=["full_docs"])
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("work", ["export", "fold", "plan", "verify"])
def test_one_name_is_not_taken_for_the_names_of_its_letters(
    working_dir: Path, settings: Settings, write_file: WriteFile, work: str
) -> None:
    write_file("full_docs", {"a": 1})
    before = sorted(working_dir.iterdir())
    with pytest.raises(TypeError, match="namespaces must be a collection of str, not one str"):
        getattr(migration, work)(working_dir, settings, namespaces="full_docs")
    assert sorted(working_dir.iterdir()) == before


# Dual writing was on once, and its process was killed: its log is older than what the server has.
def test_a_log_that_was_left_behind_takes_nothing_back_of_what_was_exported(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    path = write_file("full_docs", {"dropped": 1})
    log = path.with_suffix(".changes")
    log.write_text('["drop"]\n["set","a","older"]\n')
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": "newer", "b": 2})
    migration.export(working_dir, settings)
    # As a host does that starts on JSON, with no server to ask.
    migration.fold(working_dir)
    assert json.loads(path.read_text()) == {"a": "newer", "b": 2}
    assert not log.exists()


def test_files_of_what_the_server_does_not_hold_are_left_and_named(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    write_file("empty", {})
    dropped = write_file("community_reports", {"report-1": {}})
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert(VALUES)
    assert migration.export(working_dir, settings).left == (dropped,)
    assert json.loads(dropped.read_text()) == {"report-1": {}}
    named = migration.export(working_dir, settings, namespaces=["full_docs"])
    assert named.left == ()


# Of another address, database or workspace, or of a server that was lost: it became "{}".
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_file_of_values_is_left_where_the_server_holds_nothing_of_what_was_named(
    working_dir: Path, settings: Settings, write_file: WriteFile, *, dry_run: bool
) -> None:
    last = write_file("full_docs", {"doc-1": {"content": "the last copy"}})
    before = last.read_bytes()
    with SyncRedisKVStorage("text_chunks", settings) as storage:
        storage.upsert(VALUES)
    names = ["full_docs", "text_chunks"]
    done = migration.export(working_dir, settings, namespaces=names, dry_run=dry_run)
    assert [file.namespace for file in done.files] == ["text_chunks"]
    assert done.left == (last,)
    assert last.read_bytes() == before
