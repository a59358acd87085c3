"""Reading: what comes back, in which order, and what a miss looks like."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from support.stores import RedisStore, Store

FALSY = {"dict": {}, "text": "", "int": 0, "float": 0.0, "list": [], "none": None, "false": False}


def test_a_value_comes_back(store: Store) -> None:
    report = {"title": "Scrooge", "findings": [{"summary": "é \u2028", "weight": 0.1}], "level": 2}
    store.upsert({"report": report})
    assert store.get_by_id("report") == report


# JsonKVStorage hands out what it holds, and would keep the change: docs/migration.md says so.
def test_a_value_that_is_changed_after_it_was_read_is_kept_by_upsert_alone(
    redis_kv: RedisStore,
) -> None:
    redis_kv.upsert({"report": {"title": "Scrooge"}})
    redis_kv.get_by_id("report")["title"] = "Marley"
    redis_kv.index_done_callback()
    assert redis_kv.get_by_id("report") == {"title": "Scrooge"}


def test_a_missing_id_is_none(store: Store) -> None:
    assert store.get_by_id("missing") is None


@pytest.mark.any_server
@pytest.mark.parametrize("kind", FALSY)
def test_falsy_values_come_back_as_they_are(store: Store, kind: str) -> None:
    store.upsert({"falsy": FALSY[kind]})
    for found in (store.get_by_id("falsy"), *store.get_by_ids(["falsy"])):
        assert found == FALSY[kind]
        assert type(found) is type(FALSY[kind])


def test_values_come_back_in_the_order_of_their_ids(store: Store) -> None:
    store.upsert({name: {"id": name} for name in "abcdef"})
    assert store.get_by_ids(list("fadbec")) == [{"id": name} for name in "fadbec"]


def test_missing_ids_come_back_as_none_in_order(store: Store) -> None:
    store.upsert({"a": 1, "c": 3})
    assert store.get_by_ids(["x", "a", "y", "c", "z"]) == [None, 1, None, 3, None]


def test_repeated_ids_come_back_as_often(store: Store) -> None:
    store.upsert({"a": [1], "b": [2]})
    assert store.get_by_ids(["a", "b", "a", "x", "a", "x"]) == [[1], [2], [1], None, [1], None]


@pytest.mark.parametrize("make", [list, tuple, iter, dict.fromkeys, lambda ids: (i for i in ids)])
def test_ids_may_come_as_any_iterable(
    store: Store, make: Callable[[list[str]], Iterable[str]]
) -> None:
    store.upsert({"a": 1, "b": 2})
    assert store.get_by_ids(make(["b", "x", "a"])) == [2, None, 1]
    assert store.filter_keys(make(["b", "x", "a"])) == {"x"}


def test_a_set_of_ids_is_read_in_its_own_order(store: Store) -> None:
    ids = {"a", "b", "c", "d"}
    store.upsert({name: name for name in ids})
    assert store.get_by_ids(ids) == list(ids)


def test_filter_keys_gives_the_set_of_ids_that_do_not_exist(store: Store) -> None:
    store.upsert({"a": 1})
    missing = store.filter_keys(["a", "b", "c", "b"])
    assert missing == {"b", "c"}
    assert type(missing) is set


def test_none_as_a_value_exists(store: Store) -> None:
    store.upsert({"none": None})
    assert store.get_by_id("none") is None
    assert store.filter_keys(["none", "missing"]) == {"missing"}
    assert store.all_keys() == ["none"]


def test_empty_batches_are_answered(store: Store) -> None:
    store.upsert({"a": 1})
    assert store.get_by_ids([]) == []
    assert store.get_by_ids([], {"field"}) == []
    assert store.get_by_ids(()) == []
    assert store.filter_keys([]) == set()


def test_all_keys_is_a_list_that_names_each_id_once(store: Store) -> None:
    assert store.all_keys() == []
    store.upsert({"a": 1, "b": 2})
    store.upsert({"b": 3, "c": 4})
    keys = store.all_keys()
    assert type(keys) is list
    assert sorted(keys) == ["a", "b", "c"]


def test_batches_of_many_megabytes_are_whole(store: Store) -> None:
    data = {f"id-{i}": {"content": chr(97 + i % 26) * 1_000_000} for i in range(40)}
    store.upsert(data)
    assert store.get_by_ids(list(data)) == list(data.values())


def test_batches_of_thousands_are_whole(store: Store) -> None:
    data: dict[str, Any] = {
        f"chunk-{i}": {"order": i, "content": "word " * i} for i in range(3_000)
    }
    store.upsert(data)
    ids = [f"chunk-{i}" for i in range(3_500)]
    assert store.get_by_ids(ids) == [data.get(name) for name in ids]
    assert store.filter_keys(ids) == set(ids) - set(data)
    assert sorted(store.all_keys()) == sorted(data)
