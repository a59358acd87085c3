"""What is wrong with the contents of a keyspace is found, and mended where that is safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doctor.conftest import Found
from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis.doctor import Severity, examine, repair
from nano_graphrag_redis.exceptions import StorageConfigError, StorageOperationError
from support.conditions import eventually
from support.servers import RedisServer

ROOT = "nano_graphrag"


def repaired(server: RedisServer, **settings: Any) -> list[tuple[str, int]]:
    config = RedisConfig(redis_url=server.url, **settings)
    return [(done.check, done.count) for done in repair(config)]


def test_nothing_is_found_in_a_healthy_deployment(healthy: RedisServer, found: Found) -> None:
    before = healthy.client().dbsize()
    assert found() == []
    assert repaired(healthy) == []
    assert healthy.client().dbsize() == before


def test_documents_without_chunks_are_found_and_repaired(
    healthy: RedisServer, found: Found
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": healthy.url}) as documents:
        lost = {f"lost-{n}": {"content": f"page {n}"} for n in range(20)}
        documents.upsert({**lost, "blank": {"content": " \n"}})
        (finding,) = found()
        assert (finding.check, finding.severity) == ("documents-without-chunks", Severity.ERROR)
        assert (finding.count, len(finding.ids)) == (20, 10)
        assert set(finding.ids) <= lost.keys()
        assert repaired(healthy) == [("documents-without-chunks", 20)]
        assert found() == []
        assert set(documents.all_keys()) == {"doc-1", "doc-2", "blank"}


# It is still in the graph. A repair deleted it, since no chunk that could be read named it.
def test_no_document_is_forgotten_while_a_chunk_cannot_be_read(
    healthy: RedisServer, found: Found
) -> None:
    client = healthy.client()
    key = f"{ROOT}:text_chunks:chunk-2"
    client.set(key, b"{truncated")
    assert [finding.check for finding in found()] == ["corrupt-value"]
    assert repaired(healthy) == []
    client.delete(key)
    client.lpush(key, "of another program")
    assert [finding.check for finding in found()] == ["wrong-type"]
    assert repaired(healthy) == []
    client.delete(key)
    assert repaired(healthy) == [("documents-without-chunks", 1)]


# Which graphs the shared ones belong to, the keys of one workspace do not tell.
@pytest.mark.parametrize("shared", ["full_docs", "text_chunks"])
def test_documents_of_other_workspaces_are_not_forgotten(
    healthy: RedisServer, found: Found, shared: str
) -> None:
    for workspace in ("one", "other"):
        settings = {
            "redis_url": healthy.url,
            "redis_workspace": workspace,
            "redis_shared_namespaces": shared,
        }
        with SyncRedisKVStorage("full_docs", settings) as documents:
            documents.upsert({f"doc-{workspace}": {"content": "page"}})
        with SyncRedisKVStorage("text_chunks", settings) as chunks:
            chunks.upsert({f"chunk-{workspace}": {"full_doc_id": f"doc-{workspace}"}})
    before = healthy.client().dbsize()
    mine: dict[str, Any] = {"redis_workspace": "one", "redis_shared_namespaces": shared}
    assert found(**mine) == []
    assert repaired(healthy, **mine) == []
    assert healthy.client().dbsize() == before


# What the doctor deletes is no document any more on the way back to JSON either.
def test_with_dual_writing_an_examination_touches_no_file_and_a_repair_is_in_it(
    healthy: RedisServer, found: Found, tmp_path: Path
) -> None:
    dual = {"redis_dual_write": True, "working_dir": str(tmp_path)}
    with SyncRedisKVStorage("full_docs", {"redis_url": healthy.url, **dual}) as documents:
        documents.upsert({"lost": {"content": "page"}})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (finding,) = found(**dual)
    assert finding.check == "documents-without-chunks"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert repaired(healthy, **dual) == [("documents-without-chunks", 1)]
    file = tmp_path / "kv_store_full_docs.json"
    assert json.loads(file.read_text()).keys() == {"doc-1", "doc-2"}
    assert found(**dual) == []


def test_a_repair_with_dual_writing_asks_for_the_directory(healthy: RedisServer) -> None:
    with pytest.raises(StorageConfigError, match="redis_dual_write needs the host's working_dir"):
        repaired(healthy, redis_dual_write=True)


def test_chunks_without_their_document_are_found_and_kept(
    healthy: RedisServer, found: Found
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": healthy.url}) as documents:
        documents.delete_by_id("doc-2")
    (finding,) = found()
    assert (finding.check, finding.ids) == ("chunks-without-document", ("chunk-2",))
    assert finding.severity is Severity.WARNING
    assert repaired(healthy) == []
    with SyncRedisKVStorage("text_chunks", {"redis_url": healthy.url}) as chunks:
        assert chunks.get_by_id("chunk-2") is not None


# JSON can say what no id is: the whole examination was refused the question.
def test_a_chunk_that_names_what_is_no_id_has_no_document(
    healthy: RedisServer, found: Found
) -> None:
    healthy.client().set(f"{ROOT}:text_chunks:odd", rb'{"full_doc_id": "doc-\ud800"}')
    (finding,) = found()
    assert (finding.check, finding.ids) == ("chunks-without-document", ("odd",))
    assert repaired(healthy) == []


@pytest.mark.parametrize("namespace", ["full_docs", "text_chunks", "community_reports"])
def test_a_ttl_where_nothing_must_expire_is_found_and_taken_away(
    healthy: RedisServer, found: Found, namespace: str
) -> None:
    client = healthy.client()
    key = next(client.scan_iter(f"{ROOT}:{namespace}:*"))
    client.expire(key, 3600)
    (finding,) = found()
    assert (finding.check, finding.namespace, finding.count) == ("ttl", namespace, 1)
    assert repaired(healthy) == [("ttl", 1)]
    assert client.ttl(key) == -1
    assert found() == []


def test_a_ttl_that_was_asked_for_is_a_warning(healthy: RedisServer, found: Found) -> None:
    healthy.client().expire(f"{ROOT}:full_docs:doc-1", 3600)
    (finding,) = found(redis_ttl={"full_docs": 3600})
    assert (finding.check, finding.severity) == ("ttl", Severity.WARNING)
    assert repaired(healthy, redis_ttl={"full_docs": 3600}) == []


@pytest.mark.parametrize("namespace", ["community_reports", "llm_response_cache"])
def test_a_corrupt_value_is_found_among_readable_ones_and_left_alone(
    healthy: RedisServer, found: Found, namespace: str
) -> None:
    healthy.client().set(f"{ROOT}:{namespace}:bad", b"{truncated")
    (finding,) = found()
    assert (finding.check, finding.ids) == ("corrupt-value", ("bad",))
    assert finding.namespace == namespace
    assert repaired(healthy) == []
    assert healthy.client().get(f"{ROOT}:{namespace}:bad") == b"{truncated"


def test_a_key_of_another_type_is_found(healthy: RedisServer, found: Found) -> None:
    healthy.client().hset(f"{ROOT}:text_chunks:hash", "field", "value")
    (finding,) = found()
    assert (finding.check, finding.ids) == ("wrong-type", ("hash",))
    assert "hash" in finding.title


# The whole examination ended with WRONGTYPE, or with a setting that nobody had made.
def test_what_others_keep_in_place_of_a_registry_is_found(
    healthy: RedisServer, found: Found
) -> None:
    client = healthy.client()
    key = f"{ROOT}:@registry:full_docs"
    client.lpush(key, "of another program")
    client.zadd(f"{ROOT}:@registry:of:another", {"program": 1})
    for kept in (False, True):
        (finding,) = found(redis_registry=kept)
        assert (finding.check, finding.namespace) == ("wrong-type", "full_docs")
        assert key in finding.title
        assert repaired(healthy, redis_registry=kept) == []
    settings = {"redis_url": healthy.url, "redis_registry": True}
    with SyncRedisKVStorage("full_docs", settings) as documents:
        for call in (documents.all_keys, documents.drop, lambda: documents.upsert({"doc-3": {}})):
            with pytest.raises(StorageOperationError, match="WRONGTYPE"):
                call()
        client.delete(key)
        assert set(documents.all_keys()) == {"doc-1", "doc-2", "doc-3"}
    assert found(redis_registry=True) == []


def test_what_the_registry_lacks_and_has_too_much_is_found_and_repaired(
    healthy: RedisServer, found: Found
) -> None:
    with SyncRedisKVStorage(
        "text_chunks", {"redis_url": healthy.url, "redis_registry": True}
    ) as chunks:
        chunks.all_keys()  # adopts what is there
    client = healthy.client()
    client.set(f"{ROOT}:text_chunks:unseen", b'{"full_doc_id": "doc-1"}')
    client.delete(f"{ROOT}:text_chunks:chunk-1")
    (finding,) = found(redis_registry=True)
    assert (finding.check, finding.count) == ("registry-drift", 2)
    (finding,) = found()
    assert (finding.check, finding.severity) == ("registry-drift", Severity.WARNING)
    assert f"delete the key {ROOT}:@registry:text_chunks" in finding.remedy
    assert repaired(healthy, redis_registry=True) == [("registry-drift", 2)]
    assert found(redis_registry=True) == []


def test_two_working_directories_in_one_keyspace_are_found_without_being_named(
    healthy: RedisServer, found: Found
) -> None:
    config = {"redis_url": healthy.url, "working_dir": "/graphs/one"}
    with SyncRedisKVStorage("full_docs", config) as documents:
        eventually(lambda: bool(documents.get_by_id("doc-1")) and noted(healthy) == 1)
    assert found() == []
    with SyncRedisKVStorage("full_docs", {**config, "working_dir": "/graphs/two"}) as documents:
        eventually(lambda: bool(documents.get_by_id("doc-1")) and noted(healthy) == 2)
    for settings in ({}, {"working_dir": "/graphs/one"}):
        (finding,) = found(**settings)
        assert (finding.check, finding.severity) == ("working-directories", Severity.ERROR)
        assert "/graphs/one" in finding.title
        assert "/graphs/two" in finding.title
    assert found(redis_workspace="apart") == []


def noted(server: RedisServer) -> int:
    return len(list(server.client().scan_iter(f"{ROOT}:@working_dir*")))


def test_a_shared_cache_is_looked_at_where_it_lies(healthy: RedisServer, found: Found) -> None:
    healthy.client().set(f"{ROOT}:llm_response_cache:bad", b"{")
    healthy.client().set(f"{ROOT}:full_docs:of-another-graph", b"{")
    shared = {"redis_workspace": "w", "redis_shared_namespaces": "llm_response_cache"}
    (finding,) = found(**shared)
    assert (finding.check, finding.ids) == ("corrupt-value", ("bad",))
    keys = [f for f in examine(RedisConfig(redis_url=healthy.url)) if f.check == "contents"]
    assert "full_docs" in keys[0].title
