"""The registry: what it lists, counts and drops is what there is, at no cost for others' keys."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.exceptions import StorageConfigError, StorageOperationError
from support.conditions import eventually
from support.servers import RedisServer
from support.stores import OpenRedisStore, RedisStore, Settings

KEY = "nano_graphrag:@registry:full_docs"
TOKEN = b"\xff"
"""What a member begins with that is no id."""
WALKS = {"scan", "keys"}
"""Commands whose time grows with all keys of the database."""


@pytest.fixture
def settings(settings: Settings, permit: Callable[[Settings], None]) -> Settings:
    settings = settings | {"redis_registry": True}
    permit(settings)
    return settings


@pytest.fixture
def core(settings: Settings) -> Iterator[BlockingKvStore]:
    store = BlockingKvStore(RedisConfig(**settings).core_settings("full_docs"))
    yield store
    store.close()


def registered(client: Redis, key: str = KEY) -> set[str]:
    """The ids in the registry."""
    members: Any = client.zrange(key, 0, -1)
    return {member.decode() for member in members if not member.startswith(TOKEN)}


def is_complete(client: Redis) -> bool:
    """Whether the registry says that it holds all."""
    return bool(client.zcount(KEY, "+inf", "+inf"))


def commands(client: Redis) -> set[str]:
    """The commands that the server has run since the statistics were reset."""
    stats = client.info("commandstats")
    assert isinstance(stats, dict)
    return {name.removeprefix("cmdstat_") for name in stats}


def test_nothing_walks_over_the_keys_of_others(redis_kv: RedisStore, redis_client: Redis) -> None:
    redis_client.mset({f"foreign-{n}": n for n in range(5_000)})
    redis_kv.upsert({str(n): n for n in range(60)})
    assert len(redis_kv.all_keys()) == 60  # the first look adopts what was there
    redis_client.config_resetstat()
    assert redis_kv.get_stats()["key_count"] == 60
    assert redis_kv.get_stats(light=True)["key_count"] == 60
    assert sorted(redis_kv.all_keys(), key=int) == [str(n) for n in range(60)]
    redis_kv.drop()
    assert redis_kv.all_keys() == []
    assert commands(redis_client) & WALKS == set()
    assert redis_client.dbsize() == 5_000 + 1
    assert registered(redis_client) == set()


def test_many_ids_are_listed_counted_and_dropped(redis_kv: RedisStore, redis_client: Redis) -> None:
    ids = [f"id-{n}" for n in range(3_000)]
    redis_kv.upsert(dict.fromkeys(ids, 1))
    assert sorted(redis_kv.all_keys()) == sorted(ids)
    assert redis_kv.get_stats(light=True)["key_count"] == 3_000
    assert redis_kv.delete_by_ids(ids[:700]) == 700
    assert redis_kv.get_stats(light=True)["key_count"] == 2_300
    assert registered(redis_client) == set(ids[700:])
    redis_kv.drop()
    assert redis_client.keys() == [KEY.encode()]
    assert registered(redis_client) == set()


def test_what_was_there_before_the_registry_is_adopted(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    open_redis("full_docs", redis_registry=False).upsert({"old": 1, "a:b\n*": 2})
    redis_client.set("nano_graphrag:full_docs:short", b"3", px=60_000)
    redis_client.set("nano_graphrag:full_docsx:other", b"4")
    store = open_redis("full_docs")
    store.upsert({"new": 5})
    assert not is_complete(redis_client)
    assert sorted(store.all_keys()) == ["a:b\n*", "new", "old", "short"]
    assert is_complete(redis_client)
    scores = {id: redis_client.zscore(KEY, id) for id in ("old", "new", "short")}
    assert scores["old"] == scores["new"] == 9e15
    seconds = redis_client.time()[0]
    assert scores["short"] is not None
    assert abs(scores["short"] / 1_000 - seconds - 60) < 30
    store.drop()
    assert set(redis_client.keys()) == {KEY.encode(), b"nano_graphrag:full_docsx:other"}


@pytest.mark.parametrize("call", ["drop", "get_stats", "all_keys"])
def test_any_first_look_adopts_and_so_does_one_after_the_registry_was_lost(
    open_redis: OpenRedisStore, redis_client: Redis, call: str
) -> None:
    store = open_redis("full_docs")
    for _ in range(2):
        redis_client.delete(KEY)
        redis_client.set("nano_graphrag:full_docs:old", b"1")
        found = getattr(store, call)()
        if call == "drop":
            assert redis_client.keys() == [KEY.encode()]
        else:
            assert (found if call == "all_keys" else found["key_count"]) in (["old"], 1)


def test_an_adoption_that_broke_off_is_begun_again(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    for id in ("a", "b"):
        redis_client.set(f"nano_graphrag:full_docs:{id}", b"1")
    redis_client.zadd(KEY, {"a": 9e15})  # as far as it came
    assert sorted(redis_kv.all_keys()) == ["a", "b"]


def test_many_may_adopt_at_once(settings: Settings, redis_client: Redis) -> None:
    ids = {f"id-{n}" for n in range(2_000)}
    redis_client.mset({f"nano_graphrag:full_docs:{id}": b"1" for id in ids})
    found: list[set[str]] = []

    def adopt() -> None:
        with SyncRedisKVStorage("full_docs", settings) as store:
            found.append(set(store.all_keys()))

    adopters = [threading.Thread(target=adopt) for _ in range(6)]
    for adopter in adopters:
        adopter.start()
    for adopter in adopters:
        adopter.join()
    assert found == [ids] * 6
    assert registered(redis_client) == ids


def test_what_has_expired_is_neither_counted_nor_listed_and_is_swept_by_a_later_write(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    ttl = {"redis_ttl": {"full_docs": 1}}
    open_redis("full_docs", **ttl).upsert({f"id-{n}": n for n in range(1_500)})
    reader = open_redis("full_docs", **ttl)
    assert reader.get_stats(light=True)["key_count"] == 1_500
    eventually(lambda: reader.get_stats(light=True)["key_count"] == 0)
    assert len(registered(redis_client)) == 1_500
    eventually(lambda: redis_client.dbsize() == 1)
    open_redis("full_docs", **ttl).upsert({"new": 1})
    eventually(lambda: registered(redis_client) == {"new"})


def test_a_listing_gives_only_what_has_a_value_and_sweeps_the_rest(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_kv.upsert({"a": 1, "b": 2, "evicted": 3})
    redis_client.delete("nano_graphrag:full_docs:evicted")
    assert sorted(redis_kv.all_keys()) == ["a", "b"]
    assert registered(redis_client) == {"a", "b"}


def test_a_value_that_lives_longer_than_its_score_says_keeps_its_place(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    ttl = {"redis_ttl": {"full_docs": 100}}
    open_redis("full_docs", **ttl).upsert({"renewed": 1})
    redis_client.zadd(KEY, {"renewed": 1_000})  # it expired in 1970
    open_redis("full_docs", **ttl).upsert({"new": 1})  # and is swept, but for its value
    eventually(lambda: redis_client.zscore(KEY, "renewed") != 1_000)
    assert registered(redis_client) == {"renewed", "new"}
    store = open_redis("full_docs", **ttl)
    assert sorted(store.all_keys()) == ["new", "renewed"]
    assert store.get_stats(light=True)["key_count"] == 2


def test_what_was_written_without_the_registry_is_found_by_a_repair(
    open_redis: OpenRedisStore, redis_client: Redis, core: BlockingKvStore
) -> None:
    store = open_redis("full_docs")
    store.upsert({"mine": 1, "gone": 2})
    assert len(store.all_keys()) == 2
    redis_client.set("nano_graphrag:full_docs:theirs", b"3")
    redis_client.delete("nano_graphrag:full_docs:gone")
    assert store.all_keys() == ["mine"]
    store.upsert({"gone": 2})
    redis_client.delete("nano_graphrag:full_docs:gone")
    assert core.repair() == (1, 1)
    assert core.repair() == (0, 0)
    assert sorted(store.all_keys()) == ["mine", "theirs"]
    store.drop()
    assert redis_client.keys() == [KEY.encode()]


def test_a_repair_is_refused_where_no_registry_is_kept(settings: Settings) -> None:
    config = RedisConfig(**(settings | {"redis_registry": False}))
    with pytest.raises(StorageConfigError, match="redis_registry is off"):
        BlockingKvStore(config.core_settings("full_docs")).repair()


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_a_writer_without_the_registry_warns_once_that_there_is_one(
    open_redis: OpenRedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    open_redis("text_chunks", redis_registry=False).upsert({"a": 1})
    open_redis("full_docs").upsert({"a": 1})
    assert open_redis("full_docs").all_keys() == ["a"]
    # What else is told at first use, of the user's rights say, is not of the registry.
    assert not [line for line in warned(caplog) if "has a registry" in line]
    without = open_redis("full_docs", redis_registry=False)
    without.upsert({"b": 1})
    without.upsert({"c": 1})
    without.get_by_id("c")
    (message,) = [line for line in warned(caplog) if "has a registry" in line]
    assert message.startswith("full_docs: this keyspace has a registry")
    assert KEY in message


def test_a_registry_that_was_off_for_a_while_is_filled_anew(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    open_redis("full_docs").upsert({"before": 1})
    assert open_redis("full_docs").all_keys() == ["before"]
    open_redis("full_docs", redis_registry=False).upsert({"meanwhile": 2})
    assert not is_complete(redis_client)
    after = open_redis("full_docs")
    assert after.get_stats(light=True)["key_count"] == 2
    after.drop()
    assert redis_client.keys() == [KEY.encode()]


def test_a_writer_without_a_registry_is_not_kept_from_writing_by_one(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    redis_client.set(KEY, b"of another program")
    store = open_redis("full_docs", redis_registry=False)
    store.upsert({"a": 1})
    assert store.get_by_id("a") == 1


def test_registries_of_namespaces_and_workspaces_are_apart(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    stores = [open_redis("t"), open_redis("t*"), open_redis("t", redis_workspace="w"),
              open_redis("registry"), open_redis("t", redis_key_prefix="p")]  # fmt: skip
    for number, store in enumerate(stores):
        store.upsert({f"id-{number}": number})
    for number, store in enumerate(stores):
        assert store.all_keys() == [f"id-{number}"]
    assert set(redis_client.keys("*@registry*")) == {
        b"nano_graphrag:@registry:t", b"nano_graphrag:@registry:t*",
        b"nano_graphrag@w:@registry:t", b"nano_graphrag:@registry:registry", b"p:@registry:t",
    }  # fmt: skip
    stores[1].drop()
    assert stores[0].all_keys() == ["id-0"]


def test_a_registry_that_cannot_be_kept_fails_the_write(
    redis_kv: RedisStore, redis_client: Redis
) -> None:
    redis_client.set(KEY, b"of another program")
    with pytest.raises(StorageOperationError, match="WRONGTYPE") as caught:
        redis_kv.upsert({"a": 1, "b": 2})
    assert caught.value.unconfirmed_ids == ("a", "b")


def test_a_full_server_lists_deletes_and_drops(server_binary: Path) -> None:
    with RedisServer(server_binary, maxmemory_policy="noeviction") as full:
        settings = {"redis_url": full.url, "redis_registry": True}
        with SyncRedisKVStorage("full_docs", settings) as docs:
            docs.upsert({f"d{n}": "x" * 1000 for n in range(50)})
            assert len(docs.all_keys()) == 50
            full.client().delete(
                "nano_graphrag:full_docs:d1"
            )  # to be swept away once there is room
            full.client().config_set("maxmemory", "1")
            with pytest.raises(StorageOperationError, match="maxmemory"):
                docs.upsert({"more": 1})
            assert docs.delete_by_id("d2") is True
            assert docs.delete_by_ids(["d3", "d4", "nowhere"]) == 2
            assert len(docs.all_keys()) == 46
            docs.drop()
            assert docs.all_keys() == []
            full.client().config_set("maxmemory", "0")
            assert docs.all_keys() == []
            assert docs.get_stats()["key_count"] == 0


def refuse_by_memory(server: RedisServer) -> None:
    server.client().config_set("maxmemory", "1")


def refuse_as_a_replica(server: RedisServer) -> None:
    # Of a port at which nobody listens: it goes on with the data that it has.
    server.client().replicaof("127.0.0.1", 1)


def refuse_by_acl(server: RedisServer) -> None:
    server.client().execute_command("ACL", "SETUSER", "default", "-zadd")


def refuse_for_want_of_replicas(server: RedisServer) -> None:
    server.client().config_set("min-replicas-to-write", "1")


def refuse_by_a_failed_save(server: RedisServer) -> None:
    client = server.client()
    (server.directory / "dump.rdb").mkdir()  # where the snapshot is to be put
    client.config_set("save", "3600 1")
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


@pytest.mark.parametrize(
    ("refuse", "drops"),
    [
        (refuse_by_memory, True),
        (refuse_by_acl, True),
        (refuse_as_a_replica, False),
        (refuse_for_want_of_replicas, False),
        (refuse_by_a_failed_save, False),
    ],
)
def test_where_nothing_can_be_adopted_a_walk_stands_in(
    server_binary: Path,
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[RedisServer], None],
    drops: bool,
) -> None:
    ids = {f"d{n}" for n in range(50)}
    with RedisServer(server_binary, maxmemory_policy="noeviction") as server:
        settings: Settings = {"redis_url": server.url, "redis_max_retries": 0}
        with SyncRedisKVStorage("full_docs", settings) as before:
            before.upsert(dict.fromkeys(ids, "x"))
        refuse(server)
        with SyncRedisKVStorage("full_docs", settings | {"redis_registry": True}) as docs:
            with pytest.raises(StorageOperationError):
                docs.upsert({"d0": "x"})
            assert set(docs.all_keys()) == ids
            assert docs.get_stats()["key_count"] == len(ids)
            if drops:
                docs.drop()
                ids = set()
            else:
                with pytest.raises(StorageOperationError):
                    docs.drop()
            assert set(docs.all_keys()) == ids
            assert docs.get_stats()["key_count"] == len(ids)
        refused = [line for line in caplog.messages if "does not let the registry" in line]
        assert len(refused) == 1, refused


def test_a_listing_on_a_replica_passes_over_what_it_cannot_sweep_away(
    server_binary: Path,
) -> None:
    with RedisServer(server_binary) as server:
        settings: Settings = {"redis_url": server.url, "redis_registry": True}
        with SyncRedisKVStorage("full_docs", settings) as docs:
            docs.upsert({"a": 1, "b": 2})
            assert set(docs.all_keys()) == {"a", "b"}
            server.client().delete("nano_graphrag:full_docs:a")
            refuse_as_a_replica(server)
            server.client().config_resetstat()
            assert docs.all_keys() == ["b"]
            assert commands(server.client()).isdisjoint(WALKS)
