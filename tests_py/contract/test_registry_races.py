"""Whatever races, an id that has a value is registered: else `drop` would leave it behind.

A write and a delete of one id meet on the server in any order. Here a proxy holds back the rest of
the one's commands until the other is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageOperationError
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer

REGISTRY = "nano_graphrag:@registry:full_docs"
VALUE = "nano_graphrag:full_docs:x"


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Callable[[str], SyncRedisKVStorage]]:
    stores: list[SyncRedisKVStorage] = []

    def open_one(url: str) -> SyncRedisKVStorage:
        stores.append(SyncRedisKVStorage("full_docs", {"redis_url": url, "redis_registry": True}))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


Opened = Callable[[str], SyncRedisKVStorage]


def test_an_id_is_registered_before_its_value_is_set_and_once_more_after(
    server: RedisServer, redis_client: Redis, proxy: Proxy, opened: Opened
) -> None:
    writer, deleter = opened(proxy.url), opened(server.url)
    unregistered = []

    def delete() -> None:
        eventually(lambda: redis_client.zscore(REGISTRY, "x") is not None)
        assert redis_client.get(VALUE) is None
        deleter.delete_by_id("x")
        unregistered.append(redis_client.zscore(REGISTRY, "x"))

    proxy.interruption = (b"$3\r\nSET\r\n", delete)
    writer.upsert({"x": 1})
    assert unregistered == [None]
    assert redis_client.get(VALUE) == b"1"
    assert redis_client.zscore(REGISTRY, "x") is not None


@pytest.mark.parametrize("call", ["delete_by_id", "drop"])
def test_a_delete_does_not_unregister_what_was_written_after_it(
    server: RedisServer, redis_client: Redis, proxy: Proxy, opened: Opened, call: str
) -> None:
    writer, deleter = opened(server.url), opened(proxy.url)
    writer.upsert({"x": 1, "y": 2})
    writer.all_keys()
    proxy.interruption = (b"ZREMRANGEBYSCORE", lambda: writer.upsert({"x": 3}))
    deleter.drop() if call == "drop" else deleter.delete_by_ids(["x", "y"])
    assert proxy.interruption is None
    assert writer.all_keys() == ["x"]
    assert writer.get_stats(light=True)["key_count"] == 1
    writer.drop()
    assert redis_client.keys() == [REGISTRY.encode()]


def test_a_delete_that_fails_leaves_the_id_registered(
    server: RedisServer, redis_client: Redis, opened: Opened
) -> None:
    writer = opened(server.url)
    writer.upsert({"x": 1})
    writer.all_keys()
    redis_client.acl_setuser(
        "weak", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-unlink"]
    )
    try:
        weak = opened(server.url.replace("redis://", "redis://weak:p@"))
        for call in (lambda: weak.delete_by_id("x"), weak.drop):
            with pytest.raises(StorageOperationError, match="NOPERM"):
                call()
            assert writer.all_keys() == ["x"]
    finally:
        redis_client.acl_deluser("weak")
    writer.drop()
    assert redis_client.keys() == [REGISTRY.encode()]


def test_writers_and_deleters_of_the_same_ids_leave_none_unregistered(
    server: RedisServer, redis_client: Redis, opened: Opened
) -> None:
    ids = [str(n) for n in range(40)]
    calls: list[Callable[[SyncRedisKVStorage], object]] = [
        lambda store: store.upsert(dict.fromkeys(ids, "x" * 900)),
        lambda store: store.upsert({ids[0]: 1}),
        lambda store: store.delete_by_ids(ids[:20]),
        lambda store: store.drop(),
        lambda store: store.all_keys(),
    ]

    def many(call: Callable[[SyncRedisKVStorage], object]) -> None:
        with closing(opened(server.url)) as store:
            for _ in range(100):
                call(store)

    threads = [threading.Thread(target=many, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found: Any = redis_client.keys("nano_graphrag:full*")
    keys = {key.decode().rpartition(":")[2] for key in found}
    members: Any = redis_client.zrange(REGISTRY, 0, -1)
    assert keys <= {member.decode(errors="replace") for member in members}
    assert sorted(opened(server.url).all_keys()) == sorted(keys)
