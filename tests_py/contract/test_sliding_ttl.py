"""``redis_ttl_sliding``: what is read lives on, up to ``redis_ttl_max_age`` after its write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from nano_graphrag_redis import RedisConfig, RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.doctor import examine
from nano_graphrag_redis.migration import export
from support.cluster import RedisCluster
from support.conditions import eventually
from support.peer import Peer
from support.proxy import Proxy
from support.servers import RedisServer

TTL = 1_000
MAX_AGE = 1_500
CACHE = "llm_response_cache"
KEY = f"nano_graphrag:{CACHE}:"
GRACE = 60
"""Seconds by which the key that says when a value has to end outlives the value."""

BORN = f"nano_graphrag:@born:{CACHE}:"

Open = Callable[..., SyncRedisKVStorage]


def settings(url: str, **more: Any) -> dict[str, Any]:
    sliding = {"redis_ttl_sliding": True, "redis_ttl_max_age": MAX_AGE}
    return {"redis_url": url, "redis_ttl": {CACHE: TTL}, **sliding, **more}


@pytest.fixture
def opened(server: RedisServer) -> Iterator[Open]:
    """Storages, each of which has asked after nothing yet."""
    with ExitStack() as stack:

        def storage(**more: Any) -> SyncRedisKVStorage:
            return stack.enter_context(SyncRedisKVStorage(CACHE, settings(server.url, **more)))

        yield storage


def left(client: redis.Redis, key: str) -> float:
    """Seconds that a key lives, rounded up."""
    return float(client.pttl(key)) / 1000


def calls(client: redis.Redis, command: str) -> int:
    found: Any = client.info("commandstats")
    return int(found.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def renewals(storage: SyncRedisKVStorage) -> int:
    return int(storage.get_stats(light=True)["ttl_renewals"])


@pytest.mark.parametrize(
    "more",
    [{}, {"redis_registry": True}, {"redis_compression": "zstd"}, {"redis_near_cache_mb": 1}],
    ids=str,
)
def test_a_value_in_the_second_half_of_its_life_is_given_it_anew(
    opened: Open, redis_client: redis.Redis, more: dict[str, Any]
) -> None:
    storage = opened(**more)
    storage.upsert({"a": {"text": "x" * 3_000}, "b": 2})
    redis_client.pexpire(f"{KEY}a", 400_000)  # as if it had been written 600 seconds ago
    assert storage.get_by_ids(["a", "b", "c"])[1:] == [2, None]
    eventually(lambda: left(redis_client, f"{KEY}a") > 800)
    assert left(redis_client, f"{KEY}a") <= MAX_AGE - 600
    assert 800 < left(redis_client, f"{BORN}a") - GRACE <= MAX_AGE - 600
    assert not redis_client.exists(f"{BORN}b")
    eventually(lambda: renewals(storage) == 1)
    if "redis_registry" in more:
        score = redis_client.zscore(f"nano_graphrag:@registry:{CACHE}", "a")
        seconds, micros = redis_client.time()
        assert score is not None
        assert 800 < score / 1000 - seconds - micros / 1e6 <= MAX_AGE - 600 + 1


def test_a_value_in_the_first_half_of_its_life_is_left_alone_and_asked_after_once(
    opened: Open, redis_client: redis.Redis
) -> None:
    storage = opened()
    storage.upsert({"a": 1})
    redis_client.pexpire(f"{KEY}a", 600_000)
    redis_client.config_resetstat()
    for _ in range(20):
        assert storage.get_by_id("a") == 1
    eventually(lambda: calls(redis_client, "pttl") == 2)
    assert calls(redis_client, "pexpire") == 0
    assert left(redis_client, f"{KEY}a") <= 600


def test_no_renewal_goes_beyond_the_greatest_age(opened: Open, redis_client: redis.Redis) -> None:
    opened().upsert({"a": 1})
    redis_client.pexpire(f"{KEY}a", 100_000)  # written 900 seconds ago
    first = opened()
    assert first.get_by_id("a") == 1
    eventually(lambda: renewals(first) == 1)
    assert 500 < left(redis_client, f"{KEY}a") <= 600
    redis_client.pexpire(f"{KEY}a", 50_000)  # and some time later
    redis_client.expire(f"{BORN}a", 70 + GRACE)
    second = opened(redis_socket_timeout=4.0)
    assert second.get_by_id("a") == 1
    eventually(lambda: renewals(second) == 1)
    assert 60 < left(redis_client, f"{KEY}a") <= 70
    # At its end nothing is given any more.
    redis_client.pexpire(f"{KEY}a", 70_000)
    redis_client.expire(f"{BORN}a", 70 + GRACE)
    third = opened(redis_socket_timeout=3.0)
    redis_client.config_resetstat()
    assert third.get_by_id("a") == 1
    eventually(lambda: calls(redis_client, "pttl") >= 2)
    assert left(redis_client, f"{KEY}a") <= 70


def test_a_copy_of_the_near_cache_does_not_expire_unnoticed(
    opened: Open, redis_client: redis.Redis
) -> None:
    # Half of its life is enough for a busy machine.
    storage = opened(redis_near_cache_mb=1, redis_ttl={CACHE: 12}, redis_ttl_max_age=100_000)
    storage.upsert({"a": 1})

    def hits() -> int:
        stats = storage.get_stats(light=True)["near_cache"]
        return int(stats["hits"]) if stats else 0

    eventually(lambda: storage.get_by_id("a") == 1 and hits() > 0)
    redis_client.config_resetstat()
    # From copies alone, until half of its life is over.
    eventually(lambda: storage.get_by_id("a") == 1 and renewals(storage) == 1)
    assert calls(redis_client, "pexpire") == 1
    assert calls(redis_client, "get") < 5  # its copy went when it was given more time


def test_off_sends_what_it_always_has(opened: Open, redis_client: redis.Redis) -> None:
    storage = opened(redis_ttl_sliding=False)
    storage.upsert({"a": 1})
    redis_client.pexpire(f"{KEY}a", 1_000)
    redis_client.config_resetstat()
    assert storage.get_by_id("a") == 1
    assert storage.get_by_ids(["a", "b"]) == [1, None]
    found: Any = redis_client.info("commandstats")
    assert {name for name in found if "config" not in name} == {"cmdstat_get"}


def test_a_server_that_refuses_renewals_fails_no_read(
    opened: Open, redis_client: redis.Redis
) -> None:
    opened().upsert({"a": 1})
    redis_client.pexpire(f"{KEY}a", 100_000)
    rules = ["on", ">word", "~*", "&*", "+@all", "-pexpire"]
    redis_client.execute_command("ACL", "SETUSER", "reader", *rules)
    try:
        storage = opened(redis_username="reader", redis_password="word")
        redis_client.config_resetstat()
        assert storage.get_by_id("a") == 1
        eventually(lambda: calls(redis_client, "pttl") >= 2)
        assert storage.get_by_id("a") == 1
        assert renewals(storage) == 0
    finally:
        redis_client.execute_command("ACL", "DELUSER", "reader")


@pytest.mark.parametrize("many", [False, True])
def test_awaited_reads_renew_as_well(
    many: bool, server: RedisServer, redis_client: redis.Redis
) -> None:
    async def read() -> None:
        async with RedisKVStorage(CACHE, settings(server.url)) as storage:
            await storage.upsert({"a": 1})
            redis_client.pexpire(f"{KEY}a", 100_000)
            if many:
                assert await storage.get_by_ids(["a", "b"]) == [1, None]
            else:
                assert await storage.get_by_id("a") == 1
            renewed = partial(eventually, lambda: left(redis_client, f"{KEY}a") > 500)
            await asyncio.to_thread(renewed)

    asyncio.run(read())


def test_a_value_that_is_written_while_it_is_renewed_keeps_its_time(
    opened: Open, server: RedisServer, redis_client: redis.Redis
) -> None:
    opened().upsert({"a": 1})
    redis_client.config_resetstat()
    redis_client.pexpire(f"{KEY}a", 100_000)
    with Proxy(server.port) as proxy:
        # Once the time that it has left is known, and before it is given more.
        written_anew = lambda: redis_client.set(f"{KEY}a", "2", ex=10 * TTL)  # noqa: E731
        proxy.interruption = (b"PEXPIRE", written_anew)
        storage = opened(redis_url=proxy.url)
        assert storage.get_by_id("a") == 1
        eventually(lambda: calls(redis_client, "pexpire") >= 2)
        assert renewals(storage) == 0
    assert left(redis_client, f"{KEY}a") > 9 * TTL


@pytest.mark.any_server
def test_a_server_whose_pexpire_knows_no_gt_renews_too() -> None:
    asked: list[list[bytes]] = []

    def redis_6_2(words: list[bytes]) -> bytes:
        asked.append(words)
        if words[0] == b"GET":
            return b"$1\r\n1\r\n"
        if words[0] == b"SCAN":
            return b"*2\r\n$1\r\n0\r\n*0\r\n"
        if words[0] == b"PTTL":
            return b":-2\r\n" if b"@born" in words[1] else b":100000\r\n"
        if words[0] == b"PEXPIRE" and len(words) > 3:
            return b"-ERR wrong number of arguments for 'pexpire' command\r\n"
        return b":1\r\n" if words[0] == b"PEXPIRE" else b"+OK\r\n"

    with (
        Peer(redis_6_2) as peer,
        SyncRedisKVStorage(CACHE, settings(peer.url)) as storage,
    ):
        for count, id in enumerate(["a", "b"], 1):
            assert storage.get_by_id(id) == 1
            eventually(lambda: renewals(storage) == count)  # noqa: B023  # awaited at once
    expiries = [words[1:] for words in asked if words[0] == b"PEXPIRE"]
    assert expiries == [
        [f"{KEY}a".encode(), b"600000", b"GT"],
        [f"{KEY}a".encode(), b"600000"],
        [f"{KEY}b".encode(), b"600000"],
    ]


def test_values_on_a_cluster_are_renewed(server_binary: Path) -> None:
    ids = [f"id-{number}" for number in range(30)]
    with RedisCluster(server_binary) as cluster, cluster.client() as client:
        url = cluster.primaries()[0].url
        more: dict[str, Any] = {"redis_cluster": True, "redis_registry": True}
        with SyncRedisKVStorage(CACHE, settings(url, **more)) as storage:
            storage.upsert(dict.fromkeys(ids, 1))
            for id in ids:
                client.pexpire(f"{KEY}{id}", 100_000)
            assert storage.get_by_ids(ids) == [1] * len(ids)
            eventually(lambda: renewals(storage) == len(ids))
            assert sorted(storage.all_keys()) == sorted(ids)
        assert all(500 < left(client, f"{KEY}{id}") <= 600 for id in ids)
        assert len(client.keys(f"{BORN}*")) == len(ids)


def test_what_nobody_asked_for_is_not_prolonged(
    opened: Open, server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    opened().upsert({"a": {"return": "x", "model": "m"}})
    redis_client.pexpire(f"{KEY}a", 100_000)
    redis_client.config_resetstat()
    config = RedisConfig.from_global_config(settings(server.url))
    list(examine(config))
    export(tmp_path, config)
    assert (tmp_path / f"kv_store_{CACHE}.json").exists()
    # A storage that does prolong, to see that the others had their time.
    storage = opened()
    storage.upsert({"b": 1})
    redis_client.pexpire(f"{KEY}b", 100_000)
    assert storage.get_by_id("b") == 1
    eventually(lambda: renewals(storage) == 1)
    assert left(redis_client, f"{KEY}a") <= 100


def test_what_is_noted_beside_the_namespace_belongs_to_nobody(
    opened: Open, server: RedisServer, redis_client: redis.Redis
) -> None:
    storage = opened()
    storage.upsert({"a": {"return": "x", "model": "m"}})
    redis_client.pexpire(f"{KEY}a", 100_000)
    assert storage.get_by_id("a") is not None
    eventually(lambda: renewals(storage) == 1)
    assert storage.all_keys() == ["a"]
    assert storage.get_stats()["key_count"] == 1
    config = RedisConfig.from_global_config(settings(server.url))
    assert not [each for each in examine(config) if each.check in {"foreign-keys", "ttl"}]
    storage.drop()
    # It goes by itself, and makes no new value older than that is.
    storage.upsert({"a": 2})
    assert TTL - 60 < left(redis_client, f"{KEY}a") <= TTL


@pytest.mark.any_server
def test_the_doctor_tells_where_nothing_is_prolonged(server: RedisServer) -> None:
    def found(**more: Any) -> list[str]:
        given = {"redis_url": server.url, "redis_ttl_sliding": True, **more}
        config = RedisConfig.from_global_config(given)
        return [each.title for each in examine(config) if each.check == "ttl"]

    idle = ["redis_ttl_sliding is on, and prolongs nothing"]
    assert found() == []
    assert found(redis_ttl_max_age=60) == idle
    assert found(redis_ttl={CACHE: 0, "embedding_cache": 0}) == idle
