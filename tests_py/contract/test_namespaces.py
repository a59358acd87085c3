"""Namespaces, workspaces and prefixes that look alike know nothing of each other."""

import pytest

from nano_graphrag_redis.exceptions import StorageConfigError
from support.stores import OpenRedisStore, OpenStore

ALIKE = [
    ("t", "t*"), ("t", "?"), ("t", "[t]"), ("t", "[^x]"), ("t", "\\t"), ("a", "ab"), ("a", "A"),
    ("a", " a"), ("é", "e\u0301"), ("full_docs", "full_docs_2"), ("{a}", "a"), ("*", "**"),
]  # fmt: skip

both_ways = pytest.mark.parametrize(
    ("mine", "theirs"), [*ALIKE, *((b, a) for a, b in ALIKE)], ids=ascii
)


@both_ways
def test_a_namespace_sees_and_drops_its_own_ids_alone(
    open_store: OpenStore, mine: str, theirs: str
) -> None:
    own, other = open_store(mine), open_store(theirs)
    own.upsert({"a": "own", "b": 1})
    other.upsert({"a": "other", "c": 2})
    assert sorted(own.all_keys()) == ["a", "b"]
    assert own.filter_keys(["a", "c"]) == {"c"}
    own.drop()
    assert own.all_keys() == []
    assert sorted(other.all_keys()) == ["a", "c"]
    assert other.get_by_id("a") == "other"


@both_ways
def test_a_workspace_sees_and_drops_its_own_ids_alone(
    open_redis: OpenRedisStore, mine: str, theirs: str
) -> None:
    own = open_redis("full_docs", redis_workspace=mine)
    other = open_redis("full_docs", redis_workspace=theirs)
    bare = open_redis("full_docs")
    for store, value in ((own, 1), (other, 2), (bare, 3)):
        store.upsert({"a": value})
    own.drop()
    assert own.all_keys() == []
    assert (other.all_keys(), bare.all_keys()) == (["a"], ["a"])
    assert (own.get_by_id("a"), other.get_by_id("a"), bare.get_by_id("a")) == (None, 2, 3)


@both_ways
def test_a_prefix_sees_and_drops_its_own_ids_alone(
    open_redis: OpenRedisStore, mine: str, theirs: str
) -> None:
    own = open_redis("full_docs", redis_key_prefix=mine)
    other = open_redis("full_docs", redis_key_prefix=theirs)
    own.upsert({"a": 1})
    other.upsert({"a": 2})
    own.drop()
    assert other.all_keys() == ["a"]
    assert other.get_by_id("a") == 2


def test_a_shared_namespace_lies_outside_every_workspace(open_redis: OpenRedisStore) -> None:
    shared = {"redis_shared_namespaces": ["llm_response_cache"]}
    one = open_redis("llm_response_cache", redis_workspace="one", **shared)
    two = open_redis("llm_response_cache", redis_workspace="two", **shared)
    one.upsert({"hash": {"return": "Bah!"}})
    assert two.get_by_id("hash") == {"return": "Bah!"}
    bare = open_redis("llm_response_cache")
    assert bare.all_keys() == ["hash"]


@pytest.mark.any_server
@pytest.mark.parametrize("name", ["", "a:b", "a@b", ":", "@", "\ud800"], ids=ascii)
def test_a_name_that_could_be_read_two_ways_is_refused(
    open_redis: OpenRedisStore, name: str
) -> None:
    with pytest.raises(StorageConfigError):
        open_redis(name)
    with pytest.raises(StorageConfigError, match="redis_key_prefix"):
        open_redis("full_docs", redis_key_prefix=name)
    if name:  # no workspace is the default
        with pytest.raises(StorageConfigError, match="redis_workspace"):
            open_redis("full_docs", redis_workspace=name)
