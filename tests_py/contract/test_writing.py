"""Writing: replacing, deleting, dropping."""

from collections import OrderedDict, defaultdict
from copy import deepcopy
from typing import Any

import pytest
from redis import Redis

from support.stores import OpenRedisStore, RedisStore, Store


def test_an_upsert_replaces_the_whole_value(store: Store) -> None:
    store.upsert({"a": {"title": 1, "old": 2}, "b": {"kept": 3}})
    store.upsert({"a": {"title": 4}})
    assert store.get_by_ids(["a", "b"]) == [{"title": 4}, {"kept": 3}]


def test_an_upsert_leaves_its_argument_alone(store: Store) -> None:
    data = {"a": {"tuple": (1, 2), 3: {"nested": [None]}}, "b": {}}
    before = deepcopy(data)
    store.upsert(data)
    assert data == before
    assert type(data["a"]["tuple"]) is tuple


def test_any_kind_of_dict_is_upserted(store: Store) -> None:
    store.upsert(OrderedDict(a=1))
    store.upsert(defaultdict(int, b=2))
    assert store.get_by_ids(["a", "b"]) == [1, 2]


def test_an_empty_upsert_writes_nothing(store: Store) -> None:
    store.upsert({})
    assert store.all_keys() == []


def test_an_empty_upsert_leaves_nothing_on_the_server(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_kv.upsert({})
    assert redis_client.dbsize() == 0


@pytest.mark.any_server
@pytest.mark.parametrize(
    "data",
    [None, 1, "ab", b"ab", ["ab"], [("a", 1)], {"a"}, pytest.param(iter("ab"), id="iterator")],
    ids=repr,
)
def test_an_upsert_of_no_dict_is_a_type_error(
    redis_kv: RedisStore, redis_client: Redis, data: Any
) -> None:
    with pytest.raises(TypeError, match="dict"):
        redis_kv.upsert(data)
    assert redis_client.dbsize() == 0


def test_what_was_read_belongs_to_the_reader(redis_kv: RedisStore) -> None:
    redis_kv.upsert({"a": {"list": [1]}})
    redis_kv.get_by_id("a")["list"].append(2)
    redis_kv.get_by_ids(["a"])[0]["list"].append(3)
    assert redis_kv.get_by_ids(["a", "a"]) == [{"list": [1]}, {"list": [1]}]


def test_a_drop_empties_the_namespace_which_stays_usable(store: Store) -> None:
    store.upsert({"a": 1, "b": 2})
    store.drop()
    assert store.all_keys() == []
    assert store.get_by_ids(["a", "b"]) == [None, None]
    assert store.filter_keys(["a", "b"]) == {"a", "b"}
    store.upsert({"b": 3})
    assert store.all_keys() == ["b"]


def test_an_empty_namespace_can_be_dropped(store: Store) -> None:
    store.drop()
    store.drop()
    assert store.all_keys() == []


def test_a_drop_takes_thousands_of_values(redis_kv: RedisStore, redis_client: Redis) -> None:
    redis_kv.upsert({f"chunk-{i}": i for i in range(3_000)})
    redis_kv.drop()
    assert redis_client.dbsize() == 0


def test_delete_by_id_says_whether_there_was_a_value(redis_kv: RedisStore) -> None:
    redis_kv.upsert({"a": 1, "none": None})
    assert redis_kv.delete_by_id("a") is True
    assert redis_kv.delete_by_id("a") is False
    assert redis_kv.delete_by_id("none") is True
    assert redis_kv.delete_by_id("missing") is False
    assert redis_kv.all_keys() == []


def test_delete_by_ids_counts_the_values_there_were(redis_kv: RedisStore) -> None:
    redis_kv.upsert({"a": 1, "b": 2, "c": 3})
    assert redis_kv.delete_by_ids(["a", "missing", "b", "a"]) == 2
    assert redis_kv.delete_by_ids([]) == 0
    assert redis_kv.delete_by_ids(iter("ab")) == 0
    assert redis_kv.delete_by_ids({"c"}) == 1
    assert redis_kv.all_keys() == []


def test_thousands_of_ids_are_deleted_in_one_call(redis_kv: RedisStore) -> None:
    redis_kv.upsert({f"chunk-{i}": i for i in range(3_000)})
    assert redis_kv.delete_by_ids([f"chunk-{i}" for i in range(1, 4_000)]) == 2_999
    assert redis_kv.all_keys() == ["chunk-0"]


def test_two_storages_of_one_namespace_see_each_other(open_redis: OpenRedisStore) -> None:
    one, other = open_redis("full_docs"), open_redis("full_docs")
    one.upsert({"a": 1})
    assert other.get_by_id("a") == 1
    other.delete_by_id("a")
    assert one.all_keys() == []
