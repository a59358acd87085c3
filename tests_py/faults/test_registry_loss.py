"""The registry's key is lost at any moment: what is left is never taken for complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageOperationError
from support.proxy import Proxy
from support.servers import RedisServer

from .rows import Row

REGISTRY = "nano_graphrag:@registry:full_docs"
PREFIX = "nano_graphrag:full_docs:"

Call = Callable[[SyncRedisKVStorage], Any]


def repair(store: SyncRedisKVStorage) -> Any:
    assert store._core is not None
    return store._core.repair()


def write_and_list(store: SyncRedisKVStorage) -> Any:
    store.upsert({"0": 1})
    return store.all_keys()


CALLS: dict[str, Call] = {
    "all_keys": lambda store: store.all_keys(),
    "get_stats": lambda store: store.get_stats(light=True)["key_count"],
    "drop": lambda store: store.drop(),
    "repair": repair,
    "upsert": write_and_list,
    "delete": lambda store: store.delete_by_ids(["0", "none"]),
}


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


class Loss:
    """Has the key go before one request of those that pass, or before each from then on."""

    def __init__(self, client: redis.Redis, proxy: Proxy, at: int, *, always: bool = False) -> None:
        self._client, self._proxy, self._at, self._always = client, proxy, at, always
        self.passed = 0
        self._arm()

    def _arm(self) -> None:
        self._proxy.interruption = (b"\r\n", self._before)

    def _before(self) -> None:
        if self.passed == self._at or (self._always and self.passed > self._at):
            self._client.delete(REGISTRY)
        self.passed += 1
        self._arm()


def fill(client: redis.Redis, count: int, *, registered: bool, stale: bool = False) -> set[str]:
    """Ids that were written before there was a registry, of which one may be complete or not."""
    client.flushall()
    ids = {str(number) for number in range(count)}
    client.mset({f"{PREFIX}{id}": b"1" for id in ids})
    if registered:
        with SyncRedisKVStorage("full_docs", {"redis_registry": True, **url(client)}) as store:
            assert set(store.all_keys()) == ids
    if stale:
        # Expired in its eyes, so that a listing sweeps them.
        client.zadd(REGISTRY, dict.fromkeys(list(ids)[:50], 1))
    return ids


def url(client: redis.Redis) -> dict[str, Any]:
    return {"redis_url": f"redis+unix://{client.connection_pool.connection_kwargs['path']}"}


# An adopter that wrote "complete" at its end made a part of the ids complete, for everybody.
@pytest.mark.row(55)
@pytest.mark.parametrize("registered", [False, True], ids=["adopted", "complete before"])
@pytest.mark.parametrize("name", CALLS)
def test_a_registry_that_is_lost_at_any_moment_is_never_complete_with_a_part(
    row: Row, server: RedisServer, proxy: Proxy, name: str, registered: bool
) -> None:
    client = server.client()
    count = row.pick(quick=1_300, full=20_000)
    tries = missed = left = at = 0
    while True:
        stale = registered and name != "get_stats"
        ids = fill(client, count, registered=registered, stale=stale)
        settings = {"redis_url": proxy.url, "redis_registry": True}
        with SyncRedisKVStorage("full_docs", settings) as store:
            assert store.check_health()
            loss = Loss(client, proxy, at)
            found = CALLS[name](store)
            proxy.interruption = None
        tries += 1
        there = {key.decode().removeprefix(PREFIX) for key in client.scan_iter(f"{PREFIX}*", 5000)}
        if name == "drop":
            left += len(there)
        elif name in ("all_keys", "upsert"):
            missed += len(ids - set(found))
        elif name == "get_stats":
            missed += abs(len(ids) - found)
        with SyncRedisKVStorage("full_docs", {"redis_registry": True, **url(client)}) as other:
            missed += len(there - set(other.all_keys()))
            missed += abs(len(there) - other.get_stats(light=True)["key_count"])
            other.drop()
        left += len(list(client.scan_iter(f"{PREFIX}*", 5000)))
        if loss.passed <= at:  # it came to an end before
            break
        # Every moment of the beginning and the end, and some of the middle where there are many.
        at += row.pick(quick=1, full=1 if at < 40 else 7)
    row.saw(f"moments at which it was lost in {name}", tries)
    row.none("ids missed", missed, of=tries * count)
    row.none("ids left behind by a drop", left, of=tries * count)


@pytest.mark.row(55)
@pytest.mark.parametrize("name", ["all_keys", "get_stats", "drop", "repair"])
def test_a_registry_that_is_lost_again_and_again_is_an_error_that_says_so(
    row: Row, server: RedisServer, proxy: Proxy, name: str
) -> None:
    client = server.client()
    fill(client, 100, registered=False)
    with SyncRedisKVStorage("full_docs", {"redis_url": proxy.url, "redis_registry": True}) as store:
        assert store.check_health()
        Loss(client, proxy, 0, always=True)
        with pytest.raises(StorageOperationError, match="was lost 8 times"):
            CALLS[name](store)
        proxy.interruption = None
    row.none("lists without an error", 0, of=1)
