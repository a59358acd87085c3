"""Whose the files in a working directory are, and that nothing outside it is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from migration.conftest import Open, WriteFile, file
from nano_graphrag_redis import SyncRedisKVStorage, migration
from nano_graphrag_redis.exceptions import JsonFileError, StorageConfigError
from support.conditions import eventually
from support.scripts import run_script
from support.servers import RedisServer

DROP = """
docs = SyncRedisKVStorage("full_docs", {
    "redis_url": URL, "working_dir": sys.argv[2], "redis_dual_write": True, "redis_workspace": "b",
})
try:
    getattr(docs, sys.argv[3])(*eval(sys.argv[4]))
except StorageConfigError as error:
    print(error)
"""


def _names(message: str, *said: str) -> None:
    for each in said:
        assert each in message, message


@pytest.mark.parametrize(
    ("call", "arguments"),
    [("drop", ()), ("upsert", ({"b": 1},)), ("delete_by_id", ("a",)), ("delete_by_ids", (["a"],))],
)
def test_files_that_follow_one_workspace_are_not_changed_by_another(
    open_storage: Open,
    working_dir: Path,
    redis_client: Redis,
    call: str,
    arguments: tuple[object, ...],
) -> None:
    docs = open_storage(redis_workspace="a")
    docs.upsert({"a": 1})
    theirs = "nano_graphrag@b:full_docs:a"
    redis_client.set(theirs, "2")
    url = docs.global_config["redis_url"]
    said = run_script(DROP, url, working_dir, call, repr(arguments)).cleanly()
    _names(said, "redis_workspace", "working_dir", "nano_graphrag@a:full_docs:", "@b:full_docs:")
    # It is refused before anything is sent.
    assert redis_client.get(theirs) == b"2"
    assert redis_client.keys("nano_graphrag@b:*") == [theirs.encode()]
    docs.close()
    assert file(working_dir) == {"a": 1}


@pytest.mark.parametrize("other", [{"redis_workspace": "b"}, {"redis_key_prefix": "other"}, {}])
def test_no_other_workspace_or_prefix_exports_or_folds_over_the_files(
    open_storage: Open, settings: dict[str, Any], working_dir: Path, other: dict[str, str]
) -> None:
    docs = open_storage(redis_workspace="a")
    docs.upsert({"a": 1})
    others = settings | other
    with SyncRedisKVStorage("full_docs", others) as theirs:
        theirs.upsert({"b": 2})
    acts: list[Callable[[], object]] = [
        lambda: migration.fold(working_dir, others),
        lambda: migration.export(working_dir, others),
    ]
    for act in acts:
        with pytest.raises(StorageConfigError, match=r"nano_graphrag@a:full_docs:.*working_dir"):
            act()
    docs.close()
    assert file(working_dir) == {"a": 1}
    with pytest.raises(StorageConfigError, match="redis_workspace"):
        migration.export(working_dir, others)
    # Reading is open to all: one graph may be copied from another's files.
    copied = migration.migrate(migration.plan(working_dir, others))
    assert copied.ok
    assert copied.written == 1


def test_files_are_given_to_another_workspace_by_deleting_the_lock(
    open_storage: Open, settings: dict[str, Any], working_dir: Path
) -> None:
    with open_storage(redis_workspace="a") as docs:
        docs.upsert({"a": 1})
    lock = working_dir / "kv_store_full_docs.lock"
    other = settings | {"redis_workspace": "b"}
    with SyncRedisKVStorage("full_docs", other) as docs:
        docs.upsert({"b": 2})
    with pytest.raises(StorageConfigError) as refused:
        migration.export(working_dir, other)
    _names(str(refused.value), f"delete {lock} and export the file anew")
    lock.unlink()
    migration.export(working_dir, other)
    with open_storage(redis_workspace="b") as docs:
        docs.upsert({"c": 3})
    assert file(working_dir) == {"b": 2, "c": 3}


def test_a_shared_namespace_has_one_file_for_all_workspaces(
    open_storage: Open, working_dir: Path
) -> None:
    shared = {"redis_shared_namespaces": ["llm_response_cache"]}
    for workspace in ("a", "b"):
        with open_storage("llm_response_cache", redis_workspace=workspace, **shared) as cache:
            cache.upsert({workspace: 1})
    assert file(working_dir, "llm_response_cache") == {"a": 1, "b": 1}


def test_in_an_outage_the_files_of_another_workspace_are_not_read(
    own_server: RedisServer, open_storage: Open
) -> None:
    url = {"redis_url": own_server.url, "redis_operation_timeout": 0.3, "redis_breaker_failures": 1}
    with open_storage(redis_workspace="a", **url) as docs:
        docs.upsert({"a": 1})
    other = open_storage(redis_workspace="b", redis_outage_policy="json", **url)
    assert other.get_by_id("a") is None
    own_server.kill()

    def refused() -> bool:
        try:
            other.get_by_id("a")
        except StorageConfigError as error:
            return "nano_graphrag@a:full_docs:" in str(error)
        except ConnectionError:
            return False
        return False

    eventually(refused)


OUTSIDE = ["x/../../y", "../y", "x\\y", "n\0l", "x" * 231]


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A directory in which a namespace with a slash would find a way out."""
    inside = tmp_path / "cache"
    (inside / "kv_store_x").mkdir(parents=True)
    return inside


def everything(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize("namespace", OUTSIDE)
def test_a_namespace_that_is_no_file_name_is_refused_by_whatever_writes_files(
    settings: dict[str, Any], inside: Path, namespace: str
) -> None:
    before = everything(inside.parent)
    with SyncRedisKVStorage(namespace, settings) as docs:
        docs.upsert({"a": 1})
        assert docs.get_by_id("a") == 1
    dual = settings | {"working_dir": str(inside), "redis_dual_write": True}
    for act in (
        lambda: SyncRedisKVStorage(namespace, dual),
        lambda: SyncRedisKVStorage(namespace, dual | {"redis_outage_policy": "json"}),
        lambda: migration.export(inside, settings, namespaces=[namespace]),
        lambda: migration.export(inside, settings, namespaces=[namespace], dry_run=True),
        lambda: migration.plan(inside, settings, namespaces=[namespace]),
        lambda: migration.verify(inside, settings, namespaces=[namespace]),
        lambda: migration.fold(inside, settings, namespaces=[namespace]),
    ):
        with pytest.raises(StorageConfigError, match="is no file name"):
            act()
    assert everything(inside.parent) == before


def test_an_export_of_everything_leaves_out_what_is_no_file_name_and_says_so(
    settings: dict[str, Any], inside: Path
) -> None:
    for namespace in ("full_docs", *OUTSIDE):
        with SyncRedisKVStorage(namespace, settings) as docs:
            docs.upsert({"a": 1})
    before = everything(inside.parent)
    exported = migration.export(inside, settings)
    assert [each.namespace for each in exported.files] == ["full_docs"]
    assert [each.namespace for each in exported.refused] == sorted(OUTSIDE)
    assert "is no file name" in exported.refused[0].reason
    assert not exported.ok
    assert everything(inside.parent) == before | {"cache/kv_store_full_docs.json"}


@pytest.mark.parametrize("end", [".json", ".json.new", ".changes", ".lock"])
@pytest.mark.parametrize("there", [True, False])
def test_no_link_leads_out_of_the_directory(
    open_storage: Open,
    settings: dict[str, Any],
    working_dir: Path,
    caplog: pytest.LogCaptureFixture,
    end: str,
    *,
    there: bool,
) -> None:
    outside = working_dir.parent / "outside"
    outside.mkdir()
    if there:
        (outside / "victim").write_text("{}")
    link = working_dir / f"kv_store_full_docs{end}"
    link.symlink_to(outside / "victim")
    with open_storage() as docs:
        docs.upsert({"a": 1})
    assert link.name in caplog.text
    if end.startswith(".json"):
        with pytest.raises(JsonFileError, match="link"):
            migration.export(working_dir, settings)
    if there:
        assert (outside / "victim").read_text() == "{}"
    assert everything(outside) == ({"victim"} if there else set())
    # In place of the link, all is as it should be.
    link.unlink()
    with open_storage() as docs:
        docs.upsert({"b": 2})
    assert file(working_dir) == {"a": 1, "b": 2}


def test_the_directory_itself_may_be_a_link(
    open_storage: Open, working_dir: Path, tmp_path: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1})
    link = tmp_path / "link"
    link.symlink_to(working_dir)
    with open_storage(working_dir=str(link)) as docs:
        docs.upsert({"b": 2})
    path = working_dir / "kv_store_full_docs.json"
    assert json.loads(path.read_text()) == {"a": 1, "b": 2}
