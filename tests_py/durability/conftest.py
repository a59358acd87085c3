"""Servers whose persistence matters, and storages that ask for more than an acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.conditions import eventually
from support.servers import RedisServer, server_binaries

Open = Callable[..., SyncRedisKVStorage]


@pytest.fixture
def open_at() -> Iterator[Open]:
    """`open_at(server, level, **settings)`: a storage, closed after the test."""
    with ExitStack() as stack:

        def opened(
            server: RedisServer, level: str, namespace: str = "full_docs", **settings: Any
        ) -> SyncRedisKVStorage:
            config = {"redis_url": server.url, "redis_durability": level, **settings}
            return stack.enter_context(SyncRedisKVStorage(namespace, config))

        yield opened


@pytest.fixture
def valkey() -> Path:
    """A server with WAITAOF."""
    return server_binaries()["valkey"]


@pytest.fixture
def always(server_binary: Path) -> Iterator[RedisServer]:
    """A server that syncs its file before it answers."""
    with RedisServer(server_binary, appendonly="yes", appendfsync="always") as server:
        yield server


def calls(server: RedisServer, command: str) -> int:
    """How often the server was sent a command."""
    statistics = server.client().info("commandstats")
    return int(statistics.get(f"cmdstat_{command}", {}).get("calls", 0))


def replicate(primary: RedisServer, replica: RedisServer) -> None:
    """Makes one server the replica of another and waits until it is."""
    primary.client().config_set("repl-diskless-sync-delay", 0)
    client = replica.client()
    client.replicaof("127.0.0.1", primary.port)
    eventually(lambda: client.info("replication")["master_link_status"] == "up")
