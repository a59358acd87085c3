"""`get_by_ids(ids, fields)`: the part of a value that was asked for."""

from collections.abc import Callable, Collection
from typing import Any

import pytest

from support.stores import RedisStore, Store

CHUNK = {"content": "Marley was dead", "tokens": 3, "nested": {"content": [1]}}


@pytest.mark.parametrize(
    "make", [set, frozenset, list, tuple, dict.fromkeys, lambda names: dict.fromkeys(names).keys()]
)
def test_only_the_named_fields_come_back(
    store: Store, make: Callable[[list[str]], Collection[str]]
) -> None:
    store.upsert({"chunk": CHUNK, "empty": {"other": 1}})
    fields = make(["tokens", "content", "absent"])
    assert store.get_by_ids(["chunk", "missing", "empty", "chunk"], fields) == [
        {"content": "Marley was dead", "tokens": 3},
        None,
        {},
        {"content": "Marley was dead", "tokens": 3},
    ]


def test_fields_keep_the_order_of_the_value(store: Store) -> None:
    store.upsert({"chunk": CHUNK})
    [found] = store.get_by_ids(["chunk"], ["nested", "tokens", "content"])
    assert list(found) == ["content", "tokens", "nested"]


def test_no_field_leaves_an_empty_dict(store: Store) -> None:
    store.upsert({"chunk": CHUNK})
    assert store.get_by_ids(["chunk", "missing"], set()) == [{}, None]
    assert store.get_by_ids(["chunk", "missing"], []) == [{}, None]


def test_fields_of_none_are_the_whole_value(store: Store) -> None:
    store.upsert({"chunk": CHUNK})
    assert store.get_by_ids(["chunk"], None) == [CHUNK]


def test_a_name_that_is_no_text_matches_no_field(store: Store) -> None:
    store.upsert({"chunk": {1: "one", None: "null", "a": "b"}})
    assert store.get_by_ids(["chunk"], {1, None, "a"}) == [{"a": "b"}]  # type: ignore[arg-type]


@pytest.mark.any_server
@pytest.mark.parametrize("value", [{}, "", 0, 0.0, [], None, False], ids=repr)
def test_a_falsy_value_has_no_fields_and_reads_as_none(store: Store, value: Any) -> None:
    store.upsert({"falsy": value})
    assert store.get_by_ids(["falsy"], {"content"}) == [None]
    assert store.get_by_ids(["falsy"], set()) == [None]


@pytest.mark.any_server
@pytest.mark.parametrize("value", ["text", 7, 1.5, [1], True, float("nan")], ids=repr)
def test_fields_of_a_value_that_is_no_dict_are_an_attribute_error(store: Store, value: Any) -> None:
    store.upsert({"chunk": CHUNK, "odd": value})
    with pytest.raises(AttributeError):
        store.get_by_ids(["chunk", "odd"], {"content"})


def test_that_attribute_error_names_the_id(redis_kv: RedisStore) -> None:
    redis_kv.upsert({"odd": "text"})
    with pytest.raises(AttributeError, match="namespace 'full_docs', id 'odd'"):
        redis_kv.get_by_ids(["odd"], {"content"})
