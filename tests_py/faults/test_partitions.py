"""Servers of a cluster that the others do not hear any more, while clients reach them as before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.bus import Bus
from support.cluster import NODE_TIMEOUT, RedisCluster
from support.conditions import eventually
from support.servers import RedisServer

from .rows import Row
from .test_cluster import AFTER_NODE_TIMEOUT, key

KEPT = 1.0
"""Seconds for which a value is read on, once the new one was seen."""


@pytest.fixture
def cluster(server_binary: Path) -> Iterator[RedisCluster]:
    """A cluster of this test alone, whose servers can be cut off from each other."""
    with Bus() as bus, RedisCluster(server_binary, bus=bus) as running:
        yield running


def value_of(storage: SyncRedisKVStorage, id: str) -> Any:
    """The value, or None while the cluster does not serve it."""
    try:
        return storage.get_by_id(id)
    except StorageUnavailableError:
        return None


def cut_off(row: Row, cluster: RedisCluster, victim: RedisServer, settings: dict[str, Any]) -> None:
    """Cuts a primary off, and follows one of its ids to the replica that takes over."""
    id = next(f"id-{n}" for n in range(1000) if cluster.primary_of(key(f"id-{n}")) is victim)
    successor = cluster.replica_of(victim)
    stale = reads = 0
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({id: "old"})
        eventually(lambda: cluster.admin(successor).dbsize() == cluster.admin(victim).dbsize())
        assert [storage.get_by_id(id) for _ in range(3)] == ["old"] * 3
        began = time.monotonic()
        cluster.isolate(victim)
        eventually(lambda: successor in cluster.primaries())
        cluster.admin(successor).set(key(id), b'"new"')
        eventually(lambda: value_of(storage, id) == "new")
        took = time.monotonic() - began
        while time.monotonic() < began + took + KEPT:
            reads += 1
            stale += value_of(storage, id) != "new"
        storage.upsert({id: "newer"})
        assert cluster.admin(successor).get(key(id)) == b'"newer"'
        # A process that begins now, and knows of nobody but the one that was cut off.
        fresh = {**settings, "redis_url": victim.url}
        with SyncRedisKVStorage("full_docs", fresh) as late:
            assert late.get_by_id(id) == "newer"
            late.upsert({id: "newest"})
        eventually(lambda: value_of(storage, id) == "newest")
        cluster.isolate()
        eventually(cluster.is_whole)
        assert storage.get_by_id(id) == "newest"
    row.within("the new primary is followed", took, NODE_TIMEOUT + AFTER_NODE_TIMEOUT)
    row.none("stale reads after that", stale, of=reads)


@pytest.mark.row(54)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("near_cache", [0, 8])
def test_the_majority_is_followed_when_a_primary_is_cut_off(
    row: Row, cluster: RedisCluster, near_cache: int
) -> None:
    settings = {
        "redis_url": cluster.url,
        "redis_cluster": True,
        "redis_near_cache_mb": near_cache,
    }
    for victim in cluster.servers[: row.pick(quick=1, full=3)]:
        cut_off(row, cluster, victim, settings)


@pytest.mark.row(54)
def test_a_replica_that_is_cut_off_is_noticed_by_nobody(row: Row, cluster: RedisCluster) -> None:
    calls = 0
    with SyncRedisKVStorage(
        "full_docs", {"redis_url": cluster.url, "redis_cluster": True}
    ) as storage:
        for victim in cluster.servers[3 : row.pick(quick=4, full=6)]:
            cluster.isolate(victim)
            until = time.monotonic() + NODE_TIMEOUT + AFTER_NODE_TIMEOUT
            while time.monotonic() < until:
                calls += 1
                storage.upsert({f"id-{number}": calls for number in range(20)})
                assert storage.get_by_ids(["id-1", "id-19"]) == [calls, calls]
            cluster.isolate()
            eventually(cluster.is_whole)
    row.none("errors while a replica is cut off", 0, of=calls)
