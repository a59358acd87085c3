"""Two workers over one server, each with connections of its own: they meet at the server alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, Protocol

import pytest

from nano_graphrag_redis import RedisKVStorage
from support.servers import RedisServer


class OpenCache(Protocol):
    """``open_cache(worker, **settings)``: the LLM cache of a worker, closed after the test."""

    def __call__(
        self, worker: int = ..., namespace: str = ..., **settings: Any
    ) -> RedisKVStorage: ...


@pytest.fixture
def open_cache(server: RedisServer) -> Iterator[OpenCache]:
    """Storages whose workers share no connections, and so wait for each other as processes do."""
    with ExitStack() as stack:

        def opened(
            worker: int = 0, namespace: str = "llm_response_cache", **settings: Any
        ) -> RedisKVStorage:
            given = {"redis_url": server.url, "redis_single_flight": "on", **settings}
            storage = RedisKVStorage(namespace, {**given, "redis_max_connections": 50 + worker})
            stack.enter_context(closing(storage.sync))
            return storage

        yield opened
