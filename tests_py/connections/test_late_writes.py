"""Writes that were given up: what of them is still on its way is not done after what follows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageTimeoutError
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer
from support.stores import RedisKind, redis_store

LATE = "late" * 250_000
"""More than the far end of a connection takes that nobody reads from."""


@pytest.fixture
def server(server_binary: Path) -> Iterator[RedisServer]:
    """One that nobody else has connections to."""
    with RedisServer(server_binary) as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port, room=65_536) as running:
        yield running


def hold_back(proxy: Proxy) -> threading.Event:
    """Has the way to the server stand still, amid the next write of ``x``, until it is set."""
    go_on = threading.Event()
    proxy.interruption = (b"full_docs:x", go_on.wait)
    return go_on


def is_alone(server: RedisServer) -> bool:
    """Whether the connection of the write that was given up has ended."""
    ours = "nano-graphrag-redis"
    return sum(each["name"].startswith(ours) for each in server.client().client_list()) == 1


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_write_that_timed_out_is_not_done_after_one_that_was_confirmed(
    server: RedisServer, proxy: Proxy, kind: RedisKind
) -> None:
    settings = {"redis_url": proxy.url, "redis_operation_timeout": 0.5}
    with redis_store(kind, "full_docs", settings) as docs:
        docs.get_by_id("x")
        go_on = hold_back(proxy)
        with pytest.raises(StorageTimeoutError):
            docs.upsert({"x": LATE})
        docs.upsert({"x": "newer"})
        go_on.set()
        eventually(lambda: is_alone(server))
        assert docs.get_by_id("x") == "newer"


# Batches of compressed values go over connections that several requests share. One that still waits
# there keeps nothing alive.
def test_a_write_that_timed_out_on_a_shared_connection_is_not_done_later_either(
    server: RedisServer, proxy: Proxy
) -> None:
    settings: dict[str, Any] = {
        "redis_url": proxy.url,
        "redis_socket_timeout": 1,
        "redis_operation_timeout": 5,
        "redis_max_retries": 0,
        "redis_compression": "zstd",
        "redis_compression_level": -131072,
        "redis_compression_min_bytes": 10_000_000,
    }

    async def write() -> None:
        async with RedisKVStorage("full_docs", settings) as docs:
            await docs.upsert({"a": 1, "b": 2})
            go_on = hold_back(proxy)
            late = asyncio.ensure_future(docs.upsert({"x": LATE, "y": LATE}))
            await asyncio.sleep(0.7)
            waits_on = asyncio.ensure_future(docs.get_by_ids(["a", "b"]))
            with pytest.raises(StorageTimeoutError):
                await late
            await docs.upsert({"x": "newer", "z": 1})
            go_on.set()
            await asyncio.gather(waits_on, return_exceptions=True)
            await asyncio.to_thread(eventually, lambda: is_alone(server))

    asyncio.run(write())
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as docs:
        assert docs.get_by_ids(["x", "z"]) == ["newer", 1]
