"""What another client finds on the server: keys, plain JSON, lifetimes."""

import json
from enum import IntEnum
from typing import Any

import pytest
from redis import Redis

from support.stores import OpenRedisStore, RedisStore

DOCUMENT = {"content": "Fröhliche Weihnacht \U0001f384 \u2028", "weight": 0.1, "list": [1, None]}


class Level(IntEnum):
    HIGH = 2


def test_a_key_is_prefix_namespace_and_id(open_redis: OpenRedisStore, redis_client: Redis) -> None:
    open_redis("full_docs").upsert({"doc-1": 1})
    open_redis("my own").upsert({"a:b\n*": 2, "é": 3})
    assert set(redis_client.keys()) == {
        b"nano_graphrag:full_docs:doc-1",
        b"nano_graphrag:my own:a:b\n*",
        "nano_graphrag:my own:é".encode(),
    }


def test_a_workspace_stands_behind_the_prefix(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    open_redis("full_docs", redis_workspace="carol").upsert({"doc-1": 1})
    open_redis("full_docs", redis_workspace="carol", redis_key_prefix="kg").upsert({"doc-1": 1})
    assert set(redis_client.keys()) == {
        b"nano_graphrag@carol:full_docs:doc-1",
        b"kg@carol:full_docs:doc-1",
    }


def test_a_value_is_utf8_json_that_a_person_can_read(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_kv.upsert({"doc": DOCUMENT})
    stored = redis_client.get("nano_graphrag:full_docs:doc")
    assert isinstance(stored, bytes)
    assert "Fröhliche Weihnacht \U0001f384" in stored.decode()
    assert json.loads(stored) == DOCUMENT


WRITTEN: list[tuple[Any, str]] = [
    (None, "null"), (True, "true"), (0, "0"), (10**30, "1" + "0" * 30), (Level.HIGH, "2"),
    (-0.0, "-0.0"), (0.1, "0.1"), (5e-324, "5e-324"),
    (float("nan"), "NaN"), (float("-inf"), "-Infinity"),
    ("", '""'), ("é\U0001f384\u2028\x7f/", '"é\U0001f384\u2028\x7f/"'),
    ('\0\x1f\b\f\n\r\t"\\', r'"\u0000\u001f\b\f\n\r\t\"\\"'),
    ([], "[]"), ((1, [2]), "[1,[2]]"), ({}, "{}"), ({"a": {"b": None}}, '{"a":{"b":null}}'),
    ({None: 0, True: 1, 2: 2, 1.5: 3}, '{"null":0,"true":1,"2":2,"1.5":3}'),
]  # fmt: skip


@pytest.mark.any_server
@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=ascii)
def test_a_value_is_compact_json(
    redis_kv: RedisStore, redis_client: Redis, value: Any, text: str
) -> None:
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    redis_kv.upsert({"doc": value})
    assert redis_client.get("nano_graphrag:full_docs:doc") == text.encode()


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_json_of_another_client_is_read(
    redis_kv: RedisStore, redis_client: Redis, ensure_ascii: bool
) -> None:
    text = json.dumps(DOCUMENT, ensure_ascii=ensure_ascii, indent=2)
    redis_client.set("nano_graphrag:full_docs:doc", text.encode())
    assert redis_kv.get_by_id("doc") == DOCUMENT
    assert redis_kv.get_by_ids(["doc"], {"weight"}) == [{"weight": 0.1}]
    assert redis_kv.all_keys() == ["doc"]
    assert redis_kv.filter_keys(["doc"]) == set()


def test_the_llm_cache_lives_half_a_day_and_the_rest_for_ever(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    for namespace in ("full_docs", "text_chunks", "community_reports", "my_own"):
        open_redis(namespace).upsert({"id": 1})
        assert redis_client.ttl(f"nano_graphrag:{namespace}:id") == -1
    open_redis("llm_response_cache").upsert({"id": 1})
    assert 43_190 <= _ttl(redis_client, "nano_graphrag:llm_response_cache:id") <= 43_200


def test_every_value_of_a_large_batch_has_its_lifetime(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    store = open_redis("mine", redis_ttl={"mine": 100})
    store.upsert({f"id-{i}": i for i in range(3_000)})
    pipeline = redis_client.pipeline(transaction=False)
    for key in redis_client.scan_iter():
        pipeline.ttl(key)
    lifetimes = pipeline.execute()
    assert len(lifetimes) == 3_000
    assert 90 <= min(lifetimes) <= max(lifetimes) <= 100


def test_an_upsert_starts_the_lifetime_anew(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    store, key = open_redis("llm_response_cache"), "nano_graphrag:llm_response_cache:id"
    store.upsert({"id": 1})
    redis_client.expire(key, 10)
    store.get_by_id("id")
    assert _ttl(redis_client, key) <= 10
    store.upsert({"id": 2})
    assert _ttl(redis_client, key) > 43_000


def test_an_upsert_without_a_lifetime_removes_the_one_that_was(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_kv.upsert({"id": 1})
    redis_client.expire("nano_graphrag:full_docs:id", 10)
    redis_kv.upsert({"id": 2})
    assert redis_client.ttl("nano_graphrag:full_docs:id") == -1


def test_foreign_keys_are_neither_listed_nor_dropped(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    foreign = [b"nano_graphrag", b"nano_graphrag:full_docs", b"nano_graphrag:full_docsx:a",
               b"x:nano_graphrag:full_docs:a", b"nano_graphrag@w:full_docs:a"]  # fmt: skip
    redis_client.mset(dict.fromkeys(foreign, b"1"))
    redis_kv.upsert({"a": 1})
    assert redis_kv.all_keys() == ["a"]
    redis_kv.drop()
    assert sorted(redis_client.keys()) == sorted(foreign)


def _ttl(client: Redis, key: str) -> int:
    seconds = client.ttl(key)
    assert isinstance(seconds, int)
    return seconds
