"""``nano_graphrag_redis_up``: whether the servers answer, seen while nobody calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.metrics import register, unregister
from support import conditions
from support.cluster import RedisCluster
from support.sentinel import Sentinels
from support.servers import RedisServer

OFTEN = 0.1
"""Seconds between two pings, in a test."""

AWAY = 40.0
"""Seconds in which a failover is over and seen: the servers' own timeouts, on a busy machine."""

# What a server says to a user who may not ping is its own; whether it answers is the system's.
any_server = pytest.mark.any_server


def eventually(condition: Callable[..., bool], within: float = conditions.DEADLINE) -> None:
    """Scrapes until it is so, no more often than servers are pinged."""
    conditions.eventually(condition, within, every=OFTEN)


@pytest.fixture
def namespace() -> str:
    return f"n{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def registry() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    register(registry).sample_every = OFTEN
    yield registry
    unregister(registry)


def up(registry: CollectorRegistry, server: RedisServer) -> float | None:
    """The metric of the storage whose URL begins with this server, if a scrape has it."""
    (family,) = (each for each in registry.collect() if each.name == "nano_graphrag_redis_up")
    mine = (each for each in family.samples if f":{server.port}" in each.labels["server"])
    return next((each.value for each in mine), None)


@any_server
def test_a_paused_server_is_down_until_it_goes_on_and_the_other_is_up_all_along(
    server_binary: Path, namespace: str, registry: CollectorRegistry
) -> None:
    with (
        RedisServer(server_binary) as paused,
        RedisServer(server_binary) as running,
        SyncRedisKVStorage(namespace, {"redis_url": paused.url}) as silent,
        SyncRedisKVStorage(namespace, {"redis_url": running.url}) as other,
    ):
        silent.upsert({"a": 1})
        other.upsert({"a": 1})
        eventually(lambda: up(registry, paused) == up(registry, running) == 1)
        paused.pause()
        eventually(lambda: up(registry, paused) == 0)
        assert up(registry, running) == 1
        # A server that hangs keeps none of the others from being asked.
        running.kill()
        eventually(lambda: up(registry, running) == 0)
        running.start()
        eventually(lambda: up(registry, running) == 1)
        assert up(registry, paused) == 0
        paused.resume()
        eventually(lambda: up(registry, paused) == 1)


@any_server
def test_a_killed_server_is_down_until_it_is_started_again(
    server_binary: Path, namespace: str, registry: CollectorRegistry
) -> None:
    with (
        RedisServer(server_binary) as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage,
    ):
        assert up(registry, server) is None, "nobody has used it, so nobody has asked"
        storage.upsert({"a": 1})
        eventually(lambda: up(registry, server) == 1)
        server.kill()
        eventually(lambda: up(registry, server) == 0)
        server.start()
        eventually(lambda: up(registry, server) == 1)


@any_server
def test_a_server_that_was_away_from_the_first_call_on_is_down(
    server_binary: Path, namespace: str, registry: CollectorRegistry
) -> None:
    with RedisServer(server_binary) as server:
        server.kill()
        settings = {"redis_url": server.url, "redis_outage_policy": "miss", "redis_max_retries": 0}
        with SyncRedisKVStorage(namespace, settings) as storage:
            # One call: the circuit breaker opens only after several.
            assert not storage.check_health()
            eventually(lambda: up(registry, server) == 0)
            server.start()
            eventually(lambda: up(registry, server) == 1)


def test_a_user_who_may_not_ping_sees_a_server_that_is_up(
    server_binary: Path, namespace: str, registry: CollectorRegistry
) -> None:
    rules = "user alice on >secret ~nano_graphrag:* +get +set +client"
    login = {"redis_username": "alice", "redis_password": "secret"}
    with (
        RedisServer(server_binary, config=(rules,)) as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url, **login}) as storage,
    ):
        storage.upsert({"a": 1})
        eventually(lambda: up(registry, server) == 1)
        log = server.client().execute_command("ACL", "LOG")
        assert b"ping" in str(log).encode()
        server.kill()
        eventually(lambda: up(registry, server) == 0)


@any_server
def test_a_cluster_of_which_a_server_is_gone_is_down_until_it_is_back(
    server_binary: Path, namespace: str, registry: CollectorRegistry
) -> None:
    with (
        RedisCluster(server_binary, replicas=False) as cluster,
        SyncRedisKVStorage(namespace, {"redis_url": cluster.url, "redis_cluster": True}) as storage,
    ):
        storage.upsert({"a": 1})
        eventually(lambda: up(registry, cluster.servers[0]) == 1)
        gone = cluster.servers[2]
        gone.kill()
        eventually(lambda: up(registry, cluster.servers[0]) == 0)
        gone.start()
        eventually(lambda: up(registry, cluster.servers[0]) == 1)


@any_server
def test_a_cluster_is_up_again_after_a_failover_that_no_call_has_met(
    server_binary: Path, namespace: str, registry: CollectorRegistry
) -> None:
    # Without the care of idle connections, which looks at the cluster every half minute.
    settings = {"redis_cluster": True, "redis_health_check_interval": 0}
    with (
        RedisCluster(server_binary) as cluster,
        SyncRedisKVStorage(namespace, {"redis_url": cluster.url, **settings}) as storage,
    ):
        storage.upsert({"a": 1})
        eventually(lambda: up(registry, cluster.servers[0]) == 1)
        cluster.servers[1].kill()
        eventually(lambda: up(registry, cluster.servers[0]) == 0)
        eventually(lambda: up(registry, cluster.servers[0]) == 1, AWAY)
        assert not cluster.servers[1].is_running


@any_server
def test_sentinels_are_followed_to_the_new_master_that_no_call_has_met(
    server_binary: Path, namespace: str, registry: CollectorRegistry
) -> None:
    with (
        Sentinels(server_binary) as sentinels,
        SyncRedisKVStorage(namespace, sentinels.settings) as storage,
    ):
        storage.upsert({"a": 1})
        eventually(lambda: up(registry, sentinels.sentinels[0]) == 1)
        sentinels.servers[0].kill()
        eventually(lambda: up(registry, sentinels.sentinels[0]) == 0)
        eventually(lambda: up(registry, sentinels.sentinels[0]) == 1, AWAY)
        assert not sentinels.servers[0].is_running
