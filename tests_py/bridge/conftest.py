"""Storages for the hazards, which lie on the client's side: one kind of server is enough."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from support.servers import RedisServer, server_binaries


class OpenStorage(Protocol):
    """`open_storage(namespace, **settings)`: an awaiting storage, closed after the test."""

    def __call__(self, namespace: str = ..., **settings: Any) -> RedisKVStorage: ...


@pytest.fixture(scope="session")
def server_binary() -> Path:
    return server_binaries()["valkey"]


@pytest.fixture
def open_storage(server: RedisServer) -> Iterator[OpenStorage]:
    with ExitStack() as stack:

        def opened(namespace: str = "full_docs", **settings: Any) -> RedisKVStorage:
            storage = RedisKVStorage(namespace, {"redis_url": server.url, **settings})
            stack.enter_context(closing(storage.sync))
            return storage

        yield opened


@pytest.fixture
def storage(open_storage: OpenStorage) -> RedisKVStorage:
    return open_storage()


@pytest.fixture
def sync(storage: RedisKVStorage) -> SyncRedisKVStorage:
    return storage.sync


@pytest.fixture
def own_server(server_binary: Path) -> Iterator[RedisServer]:
    """A server of this test alone, to be stopped and killed."""
    with RedisServer(server_binary) as running:
        yield running
