"""The near cache on a cluster: every primary is listened to, those that come to be one too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.cluster import RedisCluster
from support.conditions import eventually
from support.servers import RedisServer, server_binaries

from .conftest import PREFIX, Near
from .test_tracking import trackers


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What a client hears is the same; that each server tells it is seen elsewhere."""
    return server_binaries()["valkey"]


@pytest.fixture
def cluster(server_binary: Path) -> Iterator[RedisCluster]:
    with RedisCluster(server_binary) as running:
        yield running


@pytest.fixture
def near(cluster: RedisCluster) -> Iterator[Near]:
    config = {"redis_url": cluster.url, "redis_cluster": True, "redis_near_cache_mb": 8}
    with Near("full_docs", config | {"redis_socket_timeout": 2.0}) as storage:
        yield storage


def one_on_each(cluster: RedisCluster) -> dict[RedisServer, str]:
    """An id of each primary."""
    return {cluster.primary_of(PREFIX + id): id for id in (f"id-{number}" for number in range(40))}


def test_what_changes_on_any_primary_is_heard(cluster: RedisCluster, near: Near) -> None:
    ids = one_on_each(cluster)
    assert len(ids) == 3
    near.upsert(dict.fromkeys(ids.values(), 1))
    for server, id in ids.items():
        assert near.fill(id) == 1
        with near.hears():
            cluster.admin(server).set(PREFIX + id, "2")
        assert near.get_by_id(id) == 2
        assert near.fill(id) == 2
        with near.hears():
            cluster.admin(server).flushall()
        assert near.get_by_id(id) is None


def test_copies_are_served_only_while_every_primary_is_heard(
    cluster: RedisCluster, near: Near
) -> None:
    ids = one_on_each(cluster)
    near.upsert(dict.fromkeys(ids.values(), 1))
    for server, id in ids.items():
        near.fill(id)
        admin = cluster.admin(server)
        for tracker in trackers(admin):
            admin.client_kill_filter(_id=tracker)
        eventually(lambda: near.cache["values"] == 0)  # no copy of any server outlives one
        near.wait_until_tracking()
        assert near.fill(id) == 1


# The replica that takes over was not listened to: what it says is kept only once it is.
def test_a_replica_that_takes_over_is_listened_to(cluster: RedisCluster, near: Near) -> None:
    victim, id = next(iter(one_on_each(cluster).items()))
    near.upsert({id: 1})
    assert near.fill(id) == 1
    eventually(lambda: cluster.admin(victim).wait(1, 100) == 1)
    victim.kill()
    eventually(lambda: not is_answered(near, id))  # its copy went with the connection
    eventually(lambda: is_answered(near, id))
    eventually(near.check_health)
    assert near.fill(id) == 1
    with near.hears():
        cluster.admin(cluster.primary_of(PREFIX + id)).set(PREFIX + id, "2")
    assert near.get_by_id(id) == 2


def is_answered(near: Near, id: str) -> bool:
    try:
        return bool(near.get_by_id(id) == 1)
    except StorageUnavailableError:
        return False


def test_a_slot_that_moves_takes_its_copies_along(cluster: RedisCluster, near: Near) -> None:
    (source, id), (target, _), _ = one_on_each(cluster).items()
    near.upsert({id: 1})
    assert near.fill(id) == 1
    slot = key_slot((PREFIX + id).encode())
    with near.hears():
        cluster.move(slot, source, target)
    assert near.fill(id) == 1
    with near.hears():
        cluster.admin(target).set(PREFIX + id, "2")
    assert near.get_by_id(id) == 2
