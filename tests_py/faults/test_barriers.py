"""What cuts a barrier short never makes it pass."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from durability.conftest import replicate
from nano_graphrag_redis import DurabilityError, StorageUnavailableError, SyncRedisKVStorage
from support.proxy import Proxy
from support.servers import RedisServer

from .rows import Row


@pytest.fixture
def primary() -> Iterator[RedisServer]:
    """A primary whose only replica has stopped: nothing new can be on it."""
    with RedisServer() as primary, RedisServer() as replica:
        replicate(primary, replica)
        replica.pause()
        yield primary
        replica.resume()


# WAIT on a connection that has written nothing has nothing to wait for, and counts every replica.
@pytest.mark.row(6)
def test_a_barrier_that_reconnects_does_not_pass_for_what_is_on_no_replica(
    row: Row, primary: RedisServer
) -> None:
    trials = row.pick(quick=40, full=500)
    chance, passed, cuts = random.Random(3), 0, 0
    settings = {"redis_durability": "replicas:1", "redis_durability_timeout": 0.02}
    with Proxy(primary.port) as proxy:
        config = {"redis_url": proxy.url, "redis_breaker_failures": 1000, **settings}
        with SyncRedisKVStorage("full_docs", config) as documents:
            for trial in range(trials):
                documents.upsert({f"doc-{trial}": trial})
                proxy.cut_after = chance.choice([0, 0, 1])  # the marker's answer, or the next
                try:
                    documents.index_done_callback()
                    passed += 1
                except (DurabilityError, StorageUnavailableError):
                    pass
                cuts += proxy.cut_after is None
                proxy.cut_after = None
    row.none("barriers passed that must not", passed, of=trials)
    row.saw("of them cut short", cuts)
    assert cuts > trials // 2
