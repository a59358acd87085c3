"""On a cluster a lease lies with the value that it is for, and costs one call all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from support.cluster import RedisCluster
from support.servers import server_binaries

from .test_one_call import answers
from .test_what_is_sent import LEASE
from .workers import asked_at_once


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What is sent is the same on every server."""
    return server_binaries()["valkey"]


@pytest.fixture
def cluster(server_binary: Path) -> Iterator[RedisCluster]:
    with RedisCluster(server_binary) as running:
        yield running


def test_workers_on_a_cluster_make_one_call(cluster: RedisCluster) -> None:
    reports = asked_at_once(
        3, 8, cluster.primaries()[0].url, seconds=1.0, redis_single_flight="on", redis_cluster=True
    )
    assert sum(report.calls for report in reports) == 1
    assert len(answers(reports)) == 1
    assert cluster.client().keys("*@lease*") == []


def test_a_lease_is_of_the_slot_of_its_value() -> None:
    value = LEASE.partition("{")[2].rstrip("}")
    assert key_slot(LEASE.encode()) == key_slot(value.encode())
