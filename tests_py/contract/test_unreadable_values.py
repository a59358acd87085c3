"""What cannot be read is an error that names it; it is never taken for absent."""

import pytest
from redis import Redis

from nano_graphrag_redis.exceptions import CorruptValueError, StorageError, StorageOperationError
from support.stores import OpenRedisStore, RedisStore

PREFIX = "nano_graphrag:full_docs:"
CORRUPT = [
    b"", b" ", b"{", b'{"a": 1', b"{'a': 1}", b"1 2", b"nul", b'"\xff\xfe"', b"\x80\x04K\x01.",
    b'"a\nb"', b"01", b"[1,]", b'"\xed\xa0\x80"', b"\0",
]  # fmt: skip
"""Cut off, of another language, no UTF-8, a pickle, raw control bytes, a raw surrogate."""


@pytest.mark.any_server
@pytest.mark.parametrize("stored", CORRUPT, ids=repr)
def test_a_corrupt_value_is_an_error_that_names_it(
    redis_kv: RedisStore, redis_client: Redis, stored: bytes
) -> None:
    redis_client.set(PREFIX + "doc-1", stored)
    with pytest.raises(CorruptValueError, match="namespace 'full_docs', id 'doc-1'") as one:
        redis_kv.get_by_id("doc-1")
    redis_kv.upsert({"good": 1})
    with pytest.raises(CorruptValueError, match="namespace 'full_docs', id 'doc-1'") as batch:
        redis_kv.get_by_ids(["good", "doc-1", "missing"])
    with pytest.raises(CorruptValueError):
        redis_kv.get_by_ids(["doc-1"], {"content"})
    for caught in (one, batch):
        assert (caught.value.namespace, caught.value.id) == ("full_docs", "doc-1")


@pytest.mark.any_server
@pytest.mark.parametrize("damage", [*CORRUPT, b"9" * 4_301, b'"\\x"', b'{"a" 1}'], ids=ascii)
def test_damage_in_a_field_that_nobody_asked_for_is_found(
    redis_kv: RedisStore, redis_client: Redis, damage: bytes
) -> None:
    redis_client.set(PREFIX + "doc-1", b'{"asked": 1, "other": [' + damage + b', 1], "last": 2}')
    with pytest.raises(CorruptValueError, match="namespace 'full_docs', id 'doc-1'"):
        redis_kv.get_by_ids(["doc-1"], {"asked"})


def test_a_corrupt_value_exists_and_can_be_replaced_or_deleted(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_client.set(PREFIX + "a", b"{")
    redis_client.set(PREFIX + "b", b"{")
    assert redis_kv.filter_keys(["a", "b"]) == set()
    redis_kv.upsert({"a": 1})
    assert redis_kv.get_by_id("a") == 1
    assert redis_kv.delete_by_id("b") is True


def test_a_key_of_another_type_is_an_error_that_names_it(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_client.rpush(PREFIX + "list", b"1")
    redis_kv.upsert({"good": 1})
    for read in (
        lambda: redis_kv.get_by_id("list"),
        lambda: redis_kv.get_by_ids(["list"]),
        lambda: redis_kv.get_by_ids(["good", "missing", "list"]),
        lambda: redis_kv.get_by_ids(["list"], {"content"}),
        lambda: redis_kv.get_by_ids([f"missing-{i}" for i in range(300)] + ["list"]),
    ):
        with pytest.raises(
            StorageOperationError, match="namespace 'full_docs', id 'list'"
        ) as caught:
            read()
        assert (caught.value.namespace, caught.value.id) == ("full_docs", "list")


def test_a_key_of_another_type_can_be_replaced_or_deleted(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_client.rpush(PREFIX + "a", b"1")
    redis_client.hset(PREFIX + "b", "field", b"1")
    assert redis_kv.filter_keys(["a", "b"]) == set()
    redis_kv.upsert({"a": 1})
    assert redis_kv.get_by_id("a") == 1
    assert redis_kv.delete_by_id("b") is True
    redis_client.rpush(PREFIX + "c", b"1")
    redis_kv.drop()
    assert redis_client.dbsize() == 0


@pytest.mark.any_server
@pytest.mark.parametrize("stored", CORRUPT, ids=repr)
def test_the_llm_cache_misses_a_corrupt_answer_and_writes_it_anew(
    open_redis: OpenRedisStore, redis_client: Redis, stored: bytes
) -> None:
    cache = open_redis("llm_response_cache")
    redis_client.set("nano_graphrag:llm_response_cache:hash", stored)
    assert cache.get_by_id("hash") is None
    assert cache.get_by_ids(["hash"]) == [None]
    cache.upsert({"hash": {"return": "Bah!"}})
    assert cache.get_by_id("hash") == {"return": "Bah!"}


def test_the_llm_cache_misses_a_key_of_another_type(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    cache = open_redis("llm_response_cache")
    redis_client.rpush("nano_graphrag:llm_response_cache:hash", b"1")
    assert cache.get_by_id("hash") is None
    assert cache.get_by_ids(["hash"]) == [None]


def test_the_llm_cache_drops_an_answer_it_cannot_store(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    cache = open_redis("llm_response_cache")
    cache.upsert({"hash": {"return": {1, 2}}})
    cache.index_done_callback()
    assert cache.get_by_id("hash") is None
    assert redis_client.dbsize() == 0


def test_a_policy_of_raise_makes_the_llm_cache_raise(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    cache = open_redis("llm_response_cache", redis_outage_policy={"llm_response_cache": "raise"})
    redis_client.set("nano_graphrag:llm_response_cache:hash", b"{")
    with pytest.raises(StorageError):
        cache.get_by_id("hash")
