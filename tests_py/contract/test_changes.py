"""``redis_changes``: one entry a call that wrote, of what the server has confirmed."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis

from nano_graphrag_redis import RedisConfig, _core
from nano_graphrag_redis._core import BlockingKvStore
from support.conditions import eventually
from support.stores import OpenRedisStore, RedisStore, Settings

KEY = "nano_graphrag:@changes:full_docs"
WHO = f"{socket.gethostname()}:{os.getpid()}"

Entry = dict[str, Any]


@pytest.fixture
def settings(settings: Settings, permit: Callable[[Settings], None]) -> Settings:
    settings = settings | {"redis_changes": True}
    permit(settings)
    return settings


@pytest.fixture(params=[False, True], ids=["scanned", "registered"])
def registry(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def recorded(client: redis.Redis, number: int, key: str = KEY) -> list[Entry]:
    """The entries of a stream, once there are so many."""

    def entries() -> list[Any]:
        found: Any = client.xrange(key)
        return list(found)

    eventually(lambda: len(entries()) >= number)
    fields = [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in entries()]
    assert len(fields) == number
    for entry in fields:
        entry["count"] = int(entry["count"])
        entry["ids"] = json.loads(entry["ids"])
    return fields


def items(number: int) -> dict[str, Any]:
    return {f"doc-{n}": {"n": n} for n in range(number)}


@pytest.mark.parametrize("number", [1, 99, 100, 101, 1000])
def test_an_upsert_is_one_entry_with_its_count_and_the_first_hundred_ids(
    number: int, redis_kv: RedisStore, redis_client: redis.Redis
) -> None:
    redis_kv.upsert(items(number))
    (entry,) = recorded(redis_client, 1)
    assert (entry["op"], entry["who"], entry["count"]) == ("upsert", WHO, number)
    # Batches of a call are confirmed in any order.
    assert len(entry["ids"]) == len(set(entry["ids"])) == min(number, 100)
    assert set(entry["ids"]) <= set(items(number))
    assert "name" not in entry


def test_what_changes_nothing_is_no_entry(redis_kv: RedisStore, redis_client: redis.Redis) -> None:
    redis_kv.upsert({})
    assert redis_kv.delete_by_id("absent") is False
    assert redis_kv.delete_by_ids([]) == 0
    redis_kv.drop()
    assert redis_kv.get_by_id("absent") is None
    redis_kv.index_done_callback()
    redis_kv.upsert({"one": 1})
    (entry,) = recorded(redis_client, 1)
    assert entry["ids"] == ["one"]


def test_deletes_and_drops_name_what_was_there(
    registry: bool, open_redis: OpenRedisStore, redis_client: redis.Redis
) -> None:
    store = open_redis("full_docs", redis_registry=registry, redis_changes_name="blue \x1b[2J")
    store.upsert(items(3))
    assert store.delete_by_ids(["doc-0", "absent", "doc-1"]) == 2
    assert store.delete_by_id("absent") is False
    store.upsert(items(101))
    store.drop()
    told = recorded(redis_client, 4)
    assert [entry["op"] for entry in told] == ["upsert", "delete", "upsert", "drop"]
    assert [entry["count"] for entry in told] == [3, 2, 101, 101]
    assert told[1]["ids"] == ["doc-0", "doc-1"]
    assert len(told[3]["ids"]) == 100
    assert {entry["name"] for entry in told} == {"blue \x1b[2J"}


def test_an_id_is_named_whatever_it_holds_and_long_ones_are_counted_alone(
    redis_kv: RedisStore, redis_client: redis.Redis
) -> None:
    hostile = 'a"\\\n\x1b[2J\u202e\u00e9\U0001f600'
    redis_kv.upsert({hostile: 1})
    redis_kv.upsert({"x" * 70_000: 1, "short": 2})
    first, second = recorded(redis_client, 2)
    assert first["ids"] == [hostile]
    assert (second["count"], second["ids"]) == (2, ["short"])


def test_off_nothing_is_recorded(open_redis: OpenRedisStore, redis_client: redis.Redis) -> None:
    store = open_redis("full_docs", redis_changes=False)
    store.upsert(items(3))
    store.drop()
    with_it = open_redis("text_chunks")
    with_it.upsert({"one": 1})
    recorded(redis_client, 1, "nano_graphrag:@changes:text_chunks")
    assert redis_client.exists(KEY) == 0


def test_a_stream_that_is_none_fails_no_write_is_told_once_and_counted(
    open_redis: OpenRedisStore, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def lost() -> int:
        counts: dict[str, int] = _core.metrics()["namespaces"]["full_docs"]["counts"]
        return counts["changes_lost"]

    redis_client.set(KEY, "another program's")
    store = open_redis("full_docs")
    store.get_by_id("doc-0")
    before = lost()
    store.upsert(items(3))

    def told() -> list[str]:
        store.get_by_id("doc-0")  # whoever comes by says what was found
        lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        return [line for line in lines if "@changes" in line]

    eventually(lambda: len(told()) == 1)
    for number in range(3):
        store.upsert({"more": number})
        eventually(lambda number=number: lost() == before + 2 + number)
    assert len(told()) == 1
    assert "changes are not recorded, the values are written all the same" in told()[0]
    assert "WRONGTYPE" in told()[0]
    redis_client.delete(KEY)
    store.upsert({"again": 1})
    eventually(lambda: len(told()) == 2)
    assert told()[1].endswith("changes are recorded again")
    assert set(store.all_keys()) == {*items(3), "more", "again"}
    newest: Any = redis_client.xrevrange(KEY, count=1)
    ((_, last),) = newest
    assert json.loads(last[b"ids"]) == ["again"]


def test_entries_are_read_from_the_newest_and_from_any_on(
    redis_kv: RedisStore, redis_client: redis.Redis, settings: Settings
) -> None:
    for number in range(5):
        redis_kv.upsert({str(number): number})
    recorded(redis_client, 5)
    core = BlockingKvStore(RedisConfig(**settings).core_settings("full_docs"))
    newest = core.changes(None, 2)
    assert [dict(fields)[b"ids"] for _, fields in newest] == [b'["4"]', b'["3"]']
    after = core.changes(newest[1][0], 10)
    assert after == [newest[0]]
    assert core.changes(newest[0][0], 10) == []
    core.close()
