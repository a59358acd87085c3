"""A write that is sent again after its answer was lost may land after another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageTimeoutError
from support.cluster import RedisCluster
from support.proxy import Proxy
from support.servers import RedisServer
from support.stores import RedisKind, redis_store

KEY = "nano_graphrag:full_docs:x"

Change = Callable[[SyncRedisKVStorage], object]
WRITE: Change = lambda docs: docs.upsert({"x": "B's"})  # noqa: E731
DELETE: Change = lambda docs: docs.delete_by_id("x")  # noqa: E731

CUT, SILENT = "the connection was lost", "no answer came in time"


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


def outcome(
    server: RedisServer,
    proxy: Proxy,
    fault: str,
    change: Change,
    *,
    kind: RedisKind = "sync",
    drops: bool = False,
    **settings: Any,
) -> tuple[Any, int]:
    """What is there after A's change, B's, and A's again if it comes; and how often A's came.

    A's reply is lost. Before its second attempt arrives, B changes the id and is told so.
    """
    word = b"UNLINK" if drops else b"SET"
    arrivals: list[str] = []

    def first() -> None:
        arrivals.append("A")
        # Both this attempt's PING and the look at a new connection have been answered by now.
        if fault == CUT:
            proxy.cut_after = 0
        else:
            proxy.deafen()
        proxy.interruption = (b"\r\n" + word + b"\r\n", again)

    def again() -> None:
        arrivals.append("A again")
        with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as other:
            change(other)

    client = server.client()
    own = {"redis_url": proxy.url, "redis_socket_timeout": 0.3, **settings}
    with redis_store(kind, "full_docs", own) as docs:
        docs.upsert({"x": "old"})
        proxy.interruption = (b"\r\n" + word + b"\r\n", first)
        with suppress(StorageTimeoutError):
            if drops:
                docs.drop()
            else:
                docs.upsert({"x": "A's"})
        proxy.cut_after = None
        if len(arrivals) == 1:
            proxy.interruption = None
            with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as other:
                change(other)
    return client.get(KEY), len(arrivals)


# Last write wins, and a retry is a write: the documentation says so.
@pytest.mark.parametrize("fault", [CUT, SILENT])
@pytest.mark.parametrize(("change", "undone"), [(WRITE, b'"A\'s"'), (DELETE, b'"A\'s"')])
def test_a_write_that_is_sent_again_takes_the_place_of_what_others_wrote(
    server: RedisServer, proxy: Proxy, fault: str, change: Change, undone: bytes
) -> None:
    assert outcome(server, proxy, fault, change) == (undone, 2)


def test_not_retrying_on_timeouts_leaves_the_retries_after_a_lost_connection(
    server: RedisServer, proxy: Proxy
) -> None:
    settings: dict[str, Any] = {"redis_retry_on_timeout": False}
    assert outcome(server, proxy, SILENT, WRITE, **settings) == (b'"B\'s"', 1)
    assert outcome(server, proxy, CUT, WRITE, **settings) == (b'"A\'s"', 2)


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("fault", [CUT, SILENT])
@pytest.mark.parametrize(("change", "kept"), [(WRITE, b'"B\'s"'), (DELETE, None)])
@pytest.mark.parametrize("drops", [False, True], ids=["upsert", "drop"])
def test_without_retries_no_write_is_sent_twice(
    server: RedisServer,
    proxy: Proxy,
    *,
    fault: str,
    change: Change,
    kept: bytes | None,
    kind: RedisKind,
    drops: bool,
) -> None:
    found = outcome(server, proxy, fault, change, kind=kind, drops=drops, redis_max_retries=0)
    assert found == (kept, 1)


def test_without_retries_a_connection_that_died_while_idle_costs_no_call(
    server: RedisServer, proxy: Proxy
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": proxy.url, "redis_max_retries": 0}) as docs:
        for number in range(20):
            docs.upsert({"x": number})
            server.client().client_kill_filter(_type="normal", skipme=True)
            docs.upsert({"x": number + 1})
            assert docs.get_by_id("x") == number + 1


def test_without_retries_no_write_is_sent_twice_to_a_cluster() -> None:
    with RedisCluster(replicas=False) as cluster:
        primary = cluster.primary_of(KEY)
        with Proxy(primary.port) as proxy:
            ports = {server.port: server.port for server in cluster.servers}
            cluster.behind(ports | {primary.port: proxy.port})
            sets: list[str] = []

            def cut() -> None:
                sets.append("SET")
                proxy.cut_after = 0
                proxy.interruption = (b"\r\nSET\r\n", cut)

            settings = {"redis_url": cluster.url, "redis_cluster": True, "redis_max_retries": 0}
            with SyncRedisKVStorage("full_docs", settings) as docs:
                docs.upsert({"x": 1})
                proxy.interruption = (b"\r\nSET\r\n", cut)
                with pytest.raises(StorageTimeoutError):
                    docs.upsert({"x": 2})
            assert sets == ["SET"]
