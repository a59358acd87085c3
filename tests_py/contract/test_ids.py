"""Ids: any text that UTF-8 can hold, and nothing else."""

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
from redis import Redis

from nano_graphrag_redis.exceptions import StorageSerializationError
from support.stores import OpenRedisStore, RedisStore, Store

IDS = [
    "", " ", "*", "?", "[a]", "[^a]", "a*", "\\", "\\*", "a\nb", "\r\n", "a\0b", "\0", "{a}b", "{}",
    "a:b", ":", "@", "doc-é", "e\u0301", "\u2028", "\ufeff", "\U0001f384", "日本語", "x" * 10_000,
    "None", "'", '"', "%s", "$-1\r\n",
]  # fmt: skip
"""Glob characters, protocol bytes, hash tags, composed and decomposed letters, long ones."""

SURROGATES = ["\ud800", "doc-\udfff-1", "\udc80", "\ud83c" + "x" + "\udf84"]


class Colour(str, Enum):
    RED = "red"


@pytest.mark.parametrize("id", IDS, ids=ascii)
def test_an_id_is_any_text(store: Store, id: str) -> None:
    store.upsert({id: {"id": id}})
    assert store.get_by_id(id) == {"id": id}
    assert store.filter_keys([id, id + "?"]) == {id + "?"}
    assert store.all_keys() == [id]


def test_odd_ids_are_told_apart(store: Store) -> None:
    store.upsert(dict(zip(IDS, range(len(IDS)), strict=True)))
    assert store.get_by_ids(IDS) == list(range(len(IDS)))
    assert sorted(store.all_keys()) == sorted(IDS)


def test_an_odd_id_is_deleted_alone(redis_kv: RedisStore) -> None:
    redis_kv.upsert(dict.fromkeys(IDS, 1))
    for left, odd in reversed(list(enumerate(IDS))):
        assert redis_kv.delete_by_id(odd) is True
        assert sorted(redis_kv.all_keys()) == sorted(IDS[:left])


def test_an_id_may_be_a_subclass_of_str(store: Store) -> None:
    store.upsert({Colour.RED: "rose"})
    assert store.get_by_id(Colour.RED) == "rose"
    assert store.get_by_ids([Colour.RED, "red"]) == ["rose", "rose"]
    assert store.all_keys() == ["red"]
    assert type(store.all_keys()[0]) is str


CALLS: dict[str, Callable[[RedisStore, Any], object]] = {
    "get_by_id": lambda store, bad: store.get_by_id(bad),
    "get_by_ids": lambda store, bad: store.get_by_ids(["a", bad]),
    "filter_keys": lambda store, bad: store.filter_keys(["a", bad]),
    "upsert": lambda store, bad: store.upsert({"a": 1, bad: 2}),
    "delete_by_id": lambda store, bad: store.delete_by_id(bad),
    "delete_by_ids": lambda store, bad: store.delete_by_ids(["kept", bad]),
}


@pytest.mark.any_server
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("id", [1, None, b"a", 1.5, ("a",), True], ids=repr)
def test_an_id_that_is_no_text_is_a_type_error(
    redis_kv: RedisStore, redis_client: Redis, call: str, id: Any
) -> None:
    redis_kv.upsert({"kept": 0})
    with pytest.raises(TypeError):
        CALLS[call](redis_kv, id)
    assert redis_client.keys() == [b"nano_graphrag:full_docs:kept"]


@pytest.mark.any_server
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("id", SURROGATES, ids=ascii)
def test_an_id_that_utf8_cannot_hold_is_refused(
    redis_kv: RedisStore, redis_client: Redis, call: str, id: str
) -> None:
    redis_kv.upsert({"kept": 0})
    with pytest.raises(StorageSerializationError) as refusal:
        CALLS[call](redis_kv, id)
    assert refusal.value.namespace == "full_docs"
    assert ascii(id) in str(refusal.value)
    # A log of UTF-8 must be able to take the message.
    assert str(refusal.value).encode()
    assert redis_client.keys() == [b"nano_graphrag:full_docs:kept"]


@pytest.mark.any_server
@pytest.mark.parametrize("ids", [None, 7, object()], ids=["None", "7", "object"])
def test_ids_that_are_no_iterable_are_a_type_error(redis_kv: RedisStore, ids: Any) -> None:
    for call in (redis_kv.get_by_ids, redis_kv.filter_keys, redis_kv.delete_by_ids):
        with pytest.raises(TypeError):
            call(ids)


@pytest.mark.any_server
def test_an_error_from_the_callers_iterable_is_the_callers(open_redis: OpenRedisStore) -> None:
    def ids() -> Any:
        yield "a"
        raise LookupError("from the caller")

    store = open_redis("full_docs")
    for call in (store.get_by_ids, store.filter_keys, store.delete_by_ids):
        with pytest.raises(LookupError, match="from the caller"):
            call(ids())
