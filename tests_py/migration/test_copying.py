"""``migrate`` and ``verify``: what is copied, what is left alone, what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from migration.conftest import WriteFile
from nano_graphrag_redis import SyncRedisKVStorage, migration
from nano_graphrag_redis.exceptions import (
    JsonFileError,
    StorageConfigError,
    StorageOperationError,
    StorageUnavailableError,
)

DOCS = {
    f"doc-{n:03}": {"content": f"Marley was dead: {n} \u201cé\u201d", "n": n} for n in range(300)
}
ANSWERS = {f"hash-{n}": {"return": "Bah!\n" * n, "model": "gpt"} for n in range(40)}

Settings = dict[str, Any]


def migrate(directory: Path, settings: Settings, **options: Any) -> dict[str, tuple[int, ...]]:
    """Written, replaced, unchanged, by namespace."""
    done = migration.migrate(migration.plan(directory, settings, **options))
    return {
        each.namespace: (each.written, each.replaced, each.unchanged) for each in done.namespaces
    }


def test_what_the_files_hold_is_on_the_server_and_verified(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    write_file("full_docs", DOCS)
    write_file("llm_response_cache", ANSWERS)
    assert migrate(working_dir, settings) == {
        "full_docs": (300, 0, 0),
        "llm_response_cache": (40, 0, 0),
    }
    verified = migration.verify(working_dir, settings)
    assert verified.ok
    assert [each.ids_on_server for each in verified.namespaces] == [300, 40]
    assert all(each.file_digest == each.server_digest for each in verified.namespaces)
    with SyncRedisKVStorage("full_docs", settings) as storage:
        assert storage.get_by_ids(DOCS) == list(DOCS.values())


def test_run_again_it_copies_only_what_differs(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    write_file("full_docs", DOCS)
    migrate(working_dir, settings)
    assert migrate(working_dir, settings) == {"full_docs": (0, 0, 300)}
    write_file("full_docs", {**DOCS, "doc-000": {"content": "Scrooge"}, "doc-new": {}})
    assert migrate(working_dir, settings) == {"full_docs": (1, 1, 299)}


def test_what_is_the_same_to_json_loads_is_the_same(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    key = "nano_graphrag:full_docs:a"
    redis_client.set(key, '{ "b": "\\u00e9", "a" : [1.50, -0, NaN] }')
    write_file("full_docs", {"a": {"a": [1.5, 0, float("nan")], "b": "é"}})
    assert migrate(working_dir, settings) == {"full_docs": (0, 0, 1)}
    assert migration.verify(working_dir, settings).ok
    for other in ([1, 0], [1.5, 0.0], [1.5, -0.0], [True, 0], [1.5, 0, None]):
        write_file("full_docs", {"a": {"a": other, "b": "é"}})
        assert not migration.verify(working_dir, settings).ok


@pytest.mark.parametrize("registry", [False, True])
def test_an_id_that_is_there_keeps_what_is_left_of_its_time(
    working_dir: Path,
    settings: Settings,
    write_file: WriteFile,
    redis_client: Redis,
    registry: bool,
) -> None:
    settings |= {"redis_registry": registry}
    key = "nano_graphrag:llm_response_cache:"
    for id in ("same", "other"):
        redis_client.set(f"{key}{id}", '{"return": "Bah!"}', ex=500)
    write_file(
        "llm_response_cache",
        {"same": {"return": "Bah!"}, "other": {"return": "Humbug!"}, "new": {"return": ""}},
    )
    assert migrate(working_dir, settings) == {"llm_response_cache": (1, 1, 1)}
    times = [redis_client.ttl(f"{key}{id}") for id in ("same", "other", "new")]
    assert 400 < times[0] <= 500
    assert 400 < times[1] <= 500
    assert 43_100 < times[2] <= 43_200


def test_the_plan_says_what_will_expire_and_when(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    write_file("full_docs", DOCS)
    write_file("llm_response_cache", ANSWERS)
    plan = migration.plan(working_dir, settings)
    assert [(file.namespace, file.ids, file.ttl) for file in plan.files] == [
        ("full_docs", 300, 0),
        ("llm_response_cache", 40, 43_200),
    ]
    (notice,) = plan.notices()
    assert notice.startswith("40 answers of llm_response_cache will expire 12 hours after")
    assert migration.plan(working_dir, settings, ttl=0).notices() == []
    assert redis_client.dbsize() == 0
    migration.migrate(migration.plan(working_dir, settings, ttl=90))
    assert 0 < redis_client.ttl("nano_graphrag:full_docs:doc-001") <= 90


def test_a_dry_run_tells_the_same_and_writes_nothing(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    write_file("full_docs", DOCS)
    plan = migration.plan(working_dir, settings)
    assert migration.migrate(plan, dry_run=True).written == 300
    assert redis_client.dbsize() == 0
    assert migration.migrate(plan).written == 300


def test_only_the_namespaces_that_were_named_are_touched(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    write_file("full_docs", DOCS)
    write_file("of_my_own", {"a": 1})
    assert list(migrate(working_dir, settings, namespaces=["of_my_own"])) == ["of_my_own"]
    with pytest.raises(StorageConfigError, match="kv_store_text_chunks"):
        migration.plan(working_dir, settings, namespaces=["text_chunks"])


def test_a_directory_without_files_is_refused(working_dir: Path, settings: Settings) -> None:
    with pytest.raises(StorageConfigError, match="working_dir"):
        migration.plan(working_dir, settings)
    with pytest.raises(StorageConfigError, match="working_dir"):
        migration.verify(working_dir / "none", settings)


def test_of_an_id_that_occurs_twice_the_last_value_counts(
    working_dir: Path, settings: Settings
) -> None:
    path = working_dir / "kv_store_full_docs.json"
    path.write_text('{"a": 1, "b": 2, "\\u0061": 3, "c": 4, "a": 5}')
    assert json.loads(path.read_text()) == {"a": 5, "b": 2, "c": 4}
    assert migration.plan(working_dir, settings).files[0].ids == 3
    assert migrate(working_dir, settings) == {"full_docs": (3, 0, 0)}
    assert migrate(working_dir, settings) == {"full_docs": (0, 0, 3)}
    assert migration.verify(working_dir, settings).ok


def test_what_cannot_be_stored_is_told_and_the_rest_is_copied(
    working_dir: Path, settings: Settings, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1, "large": "x" * 2000, "b": 2})
    plan = migration.plan(working_dir, settings | {"redis_max_value_bytes": 1000})
    done = migration.migrate(plan)
    assert not done.ok
    (namespace,) = done.namespaces
    assert (namespace.written, namespace.refused_count) == (2, 1)
    assert namespace.refused[0].id == "large"
    assert "redis_max_value_bytes" in namespace.refused[0].reason
    (verified,) = migration.verify(working_dir, settings).namespaces
    assert verified.missing == ("large",)


def test_verify_says_which_ids_differ(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    write_file("full_docs", DOCS)
    migrate(working_dir, settings)
    redis_client.set("nano_graphrag:full_docs:doc-005", "{}")
    redis_client.set("nano_graphrag:full_docs:doc-007", "{")
    redis_client.delete("nano_graphrag:full_docs:doc-003")
    redis_client.set("nano_graphrag:full_docs:extra", "1")
    (verified,) = migration.verify(working_dir, settings).namespaces
    assert not verified.ok
    assert verified.file_digest != verified.server_digest
    assert verified.differing == ("doc-005", "doc-007")
    assert (verified.missing, verified.extra) == (("doc-003",), ("extra",))
    assert (verified.ids_in_file, verified.ids_on_server) == (300, 300)


def test_a_namespace_without_a_file_is_on_the_server_only(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    write_file("full_docs", DOCS)
    migrate(working_dir, settings)
    redis_client.set("nano_graphrag:a/b:chunk-1", "{}")
    verified = migration.verify(working_dir, settings)
    assert not verified.ok
    of_docs, only_there = sorted(verified.namespaces, key=lambda each: each.ok, reverse=True)
    assert of_docs.ok
    assert (only_there.namespace, only_there.extra) == ("a/b", ("chunk-1",))
    assert (only_there.ids_in_file, only_there.ids_on_server) == (0, 1)
    assert migration.verify(working_dir, settings, namespaces=["full_docs"]).ok


def test_a_damaged_file_is_refused_before_anything_is_written(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    path = write_file("full_docs", DOCS)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"n": 250', '"n": 25O'), encoding="utf-8")
    with pytest.raises(JsonFileError, match=r"kv_store_full_docs.json, byte \d+: .*doc-250"):
        migration.plan(working_dir, settings)
    assert redis_client.dbsize() == 0


def test_a_key_of_another_type_is_not_written_over(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    redis_client.rpush("nano_graphrag:full_docs:doc-001", "x")
    write_file("full_docs", DOCS)
    with pytest.raises(StorageOperationError, match="doc-001"):
        migrate(working_dir, settings)
    assert redis_client.type("nano_graphrag:full_docs:doc-001") == b"list"


def test_without_a_server_it_is_unavailable(working_dir: Path, write_file: WriteFile) -> None:
    write_file("full_docs", DOCS)
    away = {"redis_url": "redis://127.0.0.1:1", "redis_max_retries": 0}
    with pytest.raises(StorageUnavailableError):
        migrate(working_dir, away)


def test_progress_is_told_and_may_end_the_work(
    working_dir: Path, settings: Settings, write_file: WriteFile, redis_client: Redis
) -> None:
    docs = {f"doc-{n:05}": {"n": n} for n in range(3000)}
    path = write_file("full_docs", docs)
    told: list[migration.Progress] = []
    plan = migration.plan(working_dir, settings, progress=told.append)
    migration.migrate(plan, progress=told.append)
    migration.verify(working_dir, settings, progress=told.append)
    steps = {progress.step: progress for progress in told}
    size = path.stat().st_size
    assert list(steps) == ["check", "copy", "read", "compare"]
    assert {(step.done, step.total) for step in list(steps.values())[:3]} == {(size, size)}
    assert steps["compare"].done == 3000
    redis_client.flushall()

    def stop(progress: migration.Progress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        migration.migrate(plan, progress=stop)
    assert 0 < redis_client.dbsize() < 3000
    assert migration.migrate(plan).ok


@pytest.mark.parametrize("ids", [1, 63, 64, 65, 2047, 2048, 2049, 4096])
def test_progress_reaches_the_end_of_the_file(
    working_dir: Path, settings: Settings, write_file: WriteFile, ids: int
) -> None:
    path = write_file("full_docs", {f"doc-{n}": n for n in range(ids)})
    told: list[migration.Progress] = []
    migration.migrate(migration.plan(working_dir, settings), progress=told.append)
    assert (told[-1].step, told[-1].done) == ("copy", path.stat().st_size)


@pytest.mark.parametrize(
    ("compression", "registry"), [("none", False), ("none", True), ("zstd", False), ("zstd", True)]
)
def test_the_settings_of_the_storage_hold_for_what_is_copied(
    working_dir: Path,
    settings: Settings,
    write_file: WriteFile,
    redis_client: Redis,
    compression: str,
    *,
    registry: bool,
) -> None:
    settings |= {
        "redis_compression": compression,
        "redis_compression_min_bytes": 0,
        "redis_registry": registry,
        "redis_workspace": "acme",
    }
    write_file("full_docs", {"doc-1": "Marley " * 100})
    migrate(working_dir, settings)
    write_file("full_docs", {"doc-1": "Scrooge " * 100})
    migrate(working_dir, settings)
    assert migration.verify(working_dir, settings).ok
    stored = redis_client.get("nano_graphrag@acme:full_docs:doc-1")
    assert isinstance(stored, bytes)
    assert (stored[:1] == b'"') == (compression == "none")
    with SyncRedisKVStorage("full_docs", settings) as storage:
        assert storage.all_keys() == ["doc-1"]
        assert storage.get_stats(light=True)["key_count"] == 1


# A process that was killed has left it: what it says is newer than the file, and may be only there.
def test_a_file_that_is_behind_its_log_is_not_copied_over_what_is_newer(
    working_dir: Path, settings: dict[str, Any], write_file: WriteFile, redis_client: Redis
) -> None:
    path = write_file("full_docs", {"a": "older"})
    path.with_suffix(".changes").write_text('["set","a","newer"]\n["set","b",2]\n')
    redis_client.set("nano_graphrag:full_docs:a", '"newer"')
    with pytest.raises(JsonFileError, match="is behind the log of changes"):
        migration.plan(working_dir, settings)
    assert redis_client.get("nano_graphrag:full_docs:a") == b'"newer"'
    migration.fold(working_dir)
    assert migration.migrate(migration.plan(working_dir, settings)).ok
    with SyncRedisKVStorage("full_docs", settings) as storage:
        assert storage.get_by_ids(["a", "b"]) == ["newer", 2]
