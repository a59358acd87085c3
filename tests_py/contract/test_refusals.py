"""What json.dumps or UTF-8 cannot hold is refused before anything of its batch is written."""

from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis

from nano_graphrag_redis.exceptions import StorageSerializationError
from support.stores import RedisStore
from values.documents import MAX_DEPTH, MAX_DIGITS, nested


def _self_containing_list() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def _self_containing_dict() -> dict[str, Any]:
    value: dict[str, Any] = {"list": []}
    value["list"].append((value,))
    return value


REFUSED: dict[str, Callable[[], Any]] = {
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset("ab"),
    "bytes": lambda: b"bytes",
    "bytearray": lambda: bytearray(b"bytes"),
    "object": object,
    "class": lambda: dict,
    "generator": lambda: (i for i in range(3)),
    "dict view": {"a": 1}.keys,
    "range": lambda: range(3),
    "date": lambda: datetime(1843, 12, 19, tzinfo=timezone.utc),
    "decimal": lambda: Decimal("1.5"),
    "complex": lambda: 1j,
    "a list in itself": _self_containing_list,
    "a dict in itself": _self_containing_dict,
    "901 lists": lambda: nested(MAX_DEPTH + 1, "l", None),
    "901 dicts": lambda: nested(MAX_DEPTH + 1, "d", None),
    "901 of all kinds": lambda: nested(MAX_DEPTH + 1, "ltd", None),
    "100,000 lists": lambda: nested(100_000, "l", None),
    "lone surrogate": lambda: "\ud83c",
    "lone surrogate in text": lambda: "merry \udf84 christmas",
    "lone surrogate in a key": lambda: {"\ud83c": 1},
    "4,301 digits": lambda: 10**MAX_DIGITS,
    "minus 4,301 digits": lambda: -(10**MAX_DIGITS),
    "key of 4,301 digits": lambda: {10**MAX_DIGITS: 1},
    "tuple as a key": lambda: {("a", 1): 1},
    "bytes as a key": lambda: {b"a": 1},
    "object as a key": lambda: {object(): 1},
}

refused = pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)


@pytest.mark.any_server
@refused
def test_a_value_that_json_cannot_hold_is_refused_by_its_id(
    redis_kv: RedisStore, redis_client: Redis, make: Callable[[], Any]
) -> None:
    with pytest.raises(
        StorageSerializationError, match="namespace 'full_docs', id 'doc-1'"
    ) as refusal:
        redis_kv.upsert({"doc-1": make()})
    assert isinstance(refusal.value, TypeError)
    assert (refusal.value.namespace, refusal.value.id) == ("full_docs", "doc-1")
    assert str(refusal.value).encode()
    assert redis_client.dbsize() == 0


@pytest.mark.any_server
@refused
def test_it_is_refused_deep_inside_a_value_too(
    redis_kv: RedisStore, redis_client: Redis, make: Callable[[], Any]
) -> None:
    with pytest.raises(StorageSerializationError, match="id 'doc-1'"):
        redis_kv.upsert({"doc-1": {"list": [1, ({"deep": make()},)]}})
    assert redis_client.dbsize() == 0


@pytest.mark.any_server
@pytest.mark.parametrize("position", [0, 1, 1_500, 2_999])
@pytest.mark.parametrize("flaw", ["set", "901 lists", "lone surrogate", "4,301 digits"])
def test_nothing_of_a_batch_is_written_wherever_its_flaw_lies(
    redis_kv: RedisStore, redis_client: Redis, flaw: str, position: int
) -> None:
    redis_kv.upsert({"id-0": "before"})
    batch: dict[str, Any] = {f"id-{i}": {"content": "text " * 50} for i in range(3_000)}
    batch[f"id-{position}"] = REFUSED[flaw]()
    with pytest.raises(StorageSerializationError) as refusal:
        redis_kv.upsert(batch)
    assert refusal.value.id == f"id-{position}"
    assert refusal.value.unconfirmed_ids == ()
    assert redis_client.keys() == [b"nano_graphrag:full_docs:id-0"]
    assert redis_kv.get_by_id("id-0") == "before"


@pytest.mark.any_server
def test_nothing_is_written_of_a_batch_of_many_megabytes_whose_last_value_is_flawed(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    batch: dict[str, Any] = {f"id-{i}": "x" * 1_000_000 for i in range(40)} | {"flawed": {1}}
    with pytest.raises(StorageSerializationError, match="id 'flawed'"):
        redis_kv.upsert(batch)
    assert redis_client.dbsize() == 0


@pytest.mark.any_server
def test_a_store_goes_on_after_a_refusal(redis_kv: RedisStore) -> None:
    for make in REFUSED.values():
        with pytest.raises(StorageSerializationError):
            redis_kv.upsert({"id": make()})
    redis_kv.upsert({"id": "fine"})
    assert redis_kv.get_by_id("id") == "fine"


@pytest.mark.any_server
def test_an_error_raised_by_a_value_keeps_its_batch_from_being_written(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    class Fickle(dict[str, Any]):
        def items(self) -> Any:
            raise LookupError("from the value")

        def __iter__(self) -> Any:
            raise LookupError("from the value")

    try:
        redis_kv.upsert({"a": 1, "fickle": Fickle(x=1)})
    except (LookupError, StorageSerializationError):
        assert redis_client.dbsize() == 0
    else:
        # A reader of the dict's own entries never meets the methods.
        assert redis_kv.get_by_id("fickle") == {"x": 1}


def test_a_value_over_the_size_limit_is_refused_before_it_is_sent(
    open_redis: Callable[..., RedisStore], redis_client: Redis
) -> None:
    store = open_redis("full_docs", redis_max_value_bytes=1_000)
    store.upsert({"just fits": "x" * 998})
    redis_client.flushall()
    with pytest.raises(
        StorageSerializationError, match=r"redis_max_value_bytes.*id 'big'"
    ) as refusal:
        store.upsert({"small": 1, "big": "x" * 999})
    assert refusal.value.id == "big"
    assert redis_client.dbsize() == 0
