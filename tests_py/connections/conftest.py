"""A server of each test's own, and what it says about our connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.servers import RedisServer

NAME = f"nano-graphrag-redis:{os.getpid()}"


class OpenStorage(Protocol):
    """`open_storage(namespace, **settings)`: a storage on the server, closed after the test."""

    def __call__(self, namespace: str = ..., **settings: Any) -> SyncRedisKVStorage: ...


class Connections:
    """Our connections, as the server sees them; watched over one connection of redis-py's."""

    def __init__(self, server: RedisServer) -> None:
        self._watcher = server.client(single_connection_client=True)
        self._before = self._received()

    def open(self) -> list[dict[str, str]]:
        """CLIENT LIST's entries of those that bear our name and process id."""
        clients: list[dict[str, str]] = self._watcher.client_list()
        return [client for client in clients if client["name"] == NAME]

    def opened(self) -> int:
        """How many were made since the test began, whatever has become of them."""
        return self._received() - self._before

    def calls(self, command: str) -> int:
        """How often the server was sent a command."""
        statistics = self._watcher.info("commandstats")
        return int(statistics.get(f"cmdstat_{command}", {}).get("calls", 0))

    def _received(self) -> int:
        return int(self._watcher.info("stats")["total_connections_received"])


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that nobody else connects to: its counts are ours."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def connections(server: RedisServer) -> Connections:
    return Connections(server)


@pytest.fixture
def open_storage(server: RedisServer) -> Iterator[OpenStorage]:
    with ExitStack() as stack:

        def opened(namespace: str = "full_docs", **settings: Any) -> SyncRedisKVStorage:
            config = {"redis_url": server.url, **settings}
            return stack.enter_context(SyncRedisKVStorage(namespace, config))

        yield opened
