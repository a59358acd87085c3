"""`clear_on_start` empties a namespace when indexing starts, and never what others rely on."""

from typing import Any

import pytest

from support.stores import OpenRedisStore

CLEAR: dict[str, Any] = {"clear_on_start": True}


@pytest.mark.parametrize("namespace", ["full_docs", "community_reports", "my_own"])
@pytest.mark.parametrize("asked", [CLEAR, {"addon_params": CLEAR}], ids=["key", "addon_params"])
def test_the_start_of_indexing_empties_the_namespace_and_no_other(
    open_redis: OpenRedisStore, namespace: str, asked: dict[str, Any]
) -> None:
    store, neighbour = open_redis(namespace, **asked), open_redis("text_chunks", **asked)
    elsewhere = open_redis(namespace, redis_workspace="elsewhere", **asked)
    for each in (store, neighbour, elsewhere):
        each.upsert({"a": 1, "b": 2})
    store.index_start_callback()
    assert store.all_keys() == []
    assert sorted(neighbour.all_keys()) == ["a", "b"]
    assert sorted(elsewhere.all_keys()) == ["a", "b"]


def test_nothing_but_the_start_of_indexing_empties_it(open_redis: OpenRedisStore) -> None:
    open_redis("full_docs").upsert({"a": 1})
    store = open_redis("full_docs", **CLEAR)
    store.query_done_callback()
    store.index_done_callback()
    assert store.get_by_id("a") == 1


@pytest.mark.parametrize("workspace", [{}, {"redis_workspace": "w"}], ids=["bare", "workspace"])
def test_the_llm_cache_is_never_emptied(
    open_redis: OpenRedisStore, workspace: dict[str, str]
) -> None:
    cache = open_redis("llm_response_cache", **CLEAR, **workspace)
    cache.upsert({"hash": {"return": "Bah!"}})
    cache.index_start_callback()
    assert cache.get_by_id("hash") == {"return": "Bah!"}


@pytest.mark.parametrize("workspace", [{}, {"redis_workspace": "w"}], ids=["bare", "workspace"])
def test_a_shared_namespace_is_never_emptied(
    open_redis: OpenRedisStore, workspace: dict[str, str]
) -> None:
    store = open_redis("full_docs", redis_shared_namespaces=["full_docs"], **CLEAR, **workspace)
    store.upsert({"a": 1})
    store.index_start_callback()
    assert store.all_keys() == ["a"]


@pytest.mark.parametrize("asked", [{}, {"clear_on_start": False}], ids=["absent", "false"])
def test_without_the_setting_nothing_is_deleted(
    open_redis: OpenRedisStore, asked: dict[str, bool]
) -> None:
    store = open_redis("full_docs", **asked)
    store.upsert({"a": 1})
    store.index_start_callback()
    assert store.get_by_id("a") == 1
