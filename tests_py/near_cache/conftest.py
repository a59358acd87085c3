"""Storages with a near cache, and what the server and the cache say about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.typed_dicts import NearCacheStats
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer

PREFIX = "nano_graphrag:full_docs:"
"""Of the keys of the namespace that the tests use."""


class Near(SyncRedisKVStorage):
    """A storage whose near cache can be watched."""

    @property
    def cache(self) -> NearCacheStats:
        """What ``get_stats`` says of the near cache."""
        stats = self.get_stats(light=True)["near_cache"]
        assert stats is not None
        return stats

    def wait_until_tracking(self) -> None:
        """Until the server tells what changes."""
        eventually(lambda: bool(self.cache["tracking"]))

    def fill(self, id: str) -> Any:
        """Reads until a read is answered locally; the value."""
        self.wait_until_tracking()
        hits = self.cache["hits"]
        values: list[Any] = []

        def hit() -> bool:
            values.append(self.get_by_id(id))
            return bool(self.cache["hits"] > hits)

        eventually(hit)
        return values[-1]

    @contextmanager
    def hears(self, changes: int = 1) -> Iterator[None]:
        """Waits at the end until so many more invalidations have arrived."""
        before = self.cache["invalidations"]
        yield
        eventually(lambda: self.cache["invalidations"] >= before + changes)


class OpenNear(Protocol):
    """`open_near(namespace, **settings)`: a storage with a near cache, closed after the test."""

    def __call__(self, namespace: str = ..., **settings: Any) -> Near: ...


@pytest.fixture
def open_near(server: RedisServer) -> Iterator[OpenNear]:
    with ExitStack() as stack:

        def opened(namespace: str = "full_docs", **settings: Any) -> Near:
            config = {"redis_url": server.url, "redis_near_cache_mb": 8, **settings}
            return stack.enter_context(Near(namespace, config))

        yield opened


@pytest.fixture
def near(open_near: OpenNear) -> Near:
    return open_near()


@pytest.fixture
def own_server(server_binary: Path) -> Iterator[RedisServer]:
    """A server of this test alone: to be killed, or asked for what others must not see."""
    with RedisServer(server_binary, enable_debug_command="yes") as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    """A proxy before the server, which can hold replies back."""
    with Proxy(server.port) as running:
        yield running
        running.hold = frozenset()


@pytest.fixture
def behind(proxy: Proxy, open_near: OpenNear) -> Near:
    """A storage behind the proxy with two connections for values, and time for slow answers."""
    settings: dict[str, Any] = {"redis_min_connections": 2, "redis_prewarm_connections": True}
    storage = open_near(redis_url=proxy.url, redis_socket_timeout=30.0, **settings)
    eventually(lambda: bool(storage.get_stats(light=True)["connections"] == 2))
    storage.wait_until_tracking()
    return storage
