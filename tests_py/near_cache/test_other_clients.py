"""What other clients do is seen as soon as the server has told it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from support.conditions import eventually
from support.servers import RedisServer

from .conftest import PREFIX, Near, OpenNear

KEY = PREFIX + "id"


def test_a_value_read_again_is_answered_locally(near: Near, redis_client: redis.Redis) -> None:
    near.upsert({"id": {"n": [1, 2]}})
    near.fill("id")
    sent = redis_client.info("commandstats")["cmdstat_get"]["calls"]
    for _ in range(100):
        assert near.get_by_id("id") == {"n": [1, 2]}
    assert near.get_by_ids(["id"] * 3, fields={"n"}) == [{"n": [1, 2]}] * 3
    assert redis_client.info("commandstats")["cmdstat_get"]["calls"] == sent


CHANGES: dict[str, tuple[Callable[[redis.Redis], object], object]] = {
    "set": (lambda client: client.set(KEY, b'"new"'), "new"),
    "append": (lambda client: client.setrange(KEY, 1, b"neo"), "neo"),
    "delete": (lambda client: client.delete(KEY), None),
    "unlink": (lambda client: client.unlink(KEY), None),
    "expire at once": (lambda client: client.pexpire(KEY, 0), None),
    "rename": (lambda client: client.rename(KEY, "elsewhere"), None),
    "move": (lambda client: client.move(KEY, 1), None),
    "restore": (lambda client: client.copy("other", KEY, replace=True), "other"),
    "flushdb": (lambda client: client.flushdb(), None),
    "flushall": (lambda client: client.flushall(asynchronous=True), None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_change_of_another_client_is_seen_once_it_was_told(
    near: Near, redis_client: redis.Redis, name: str
) -> None:
    change, expected = CHANGES[name]
    redis_client.set("other", b'"other"')
    near.upsert({"id": "old"})
    assert near.fill("id") == "old"
    with near.hears():
        change(redis_client)
    assert near.get_by_id("id") == expected
    assert near.get_by_ids(["id"]) == [expected]


def test_a_copy_does_not_outlive_a_key_that_another_client_lets_expire(
    own_server: RedisServer, open_near: OpenNear
) -> None:
    near = open_near(redis_url=own_server.url)
    with own_server.client() as client:
        # The server says nothing of a key that expires until it comes across it.
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        near.upsert({"id": "short-lived"})
        near.wait_until_tracking()
        with near.hears():
            client.pexpire(KEY, 1500)
        assert near.fill("id") == "short-lived"
        eventually(lambda: near.get_by_id("id") is None)


def test_a_time_to_live_of_our_own_ends_the_copy_too(
    own_server: RedisServer, open_near: OpenNear
) -> None:
    near = open_near(redis_url=own_server.url, redis_ttl={"full_docs": 1})
    with own_server.client() as client:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    near.wait_until_tracking()
    near.upsert({"id": "short-lived"})
    assert near.get_by_id("id") == "short-lived"
    eventually(lambda: near.get_by_id("id") is None)


def test_absent_ids_are_asked_for_each_time(near: Near, redis_client: redis.Redis) -> None:
    near.wait_until_tracking()
    assert near.get_by_ids(["absent", "absent"]) == [None, None]
    assert near.cache["values"] == 0
    redis_client.set(PREFIX + "absent", b"1")
    assert near.get_by_id("absent") == 1


def test_local_and_remote_values_come_back_in_order(near: Near) -> None:
    count = 1000
    near.upsert({f"id-{n}": {"n": n, "m": -n} for n in range(count)})
    near.wait_until_tracking()
    near.get_by_ids([f"id-{n}" for n in range(0, count, 2)])
    near.get_by_ids([f"id-{n}" for n in range(0, count, 2)])
    hits = near.cache["hits"]
    ids = [f"id-{n % (count + 50)}" for n in range(3 * count)]
    expected = [
        {"n": int(id[3:]), "m": -int(id[3:])} if int(id[3:]) < count else None for id in ids
    ]
    assert near.get_by_ids(ids) == expected
    assert near.cache["hits"] > hits + count // 2
    assert near.get_by_ids(ids, fields=["n"]) == [v and {"n": v["n"]} for v in expected]


def test_a_caller_may_change_what_it_was_given(near: Near) -> None:
    near.upsert({"id": {"list": [1]}})
    near.fill("id")["list"].append(2)
    found: Any = near.get_by_id("id")
    found["list"].append(3)
    assert near.get_by_id("id") == {"list": [1]}
