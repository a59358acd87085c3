"""What a process is told once about its server: that it evicts, forgets, or may not be asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from support.conditions import eventually
from support.servers import RedisServer

Log = pytest.LogCaptureFixture


@pytest.fixture
def careless(server_binary: Path) -> Iterator[RedisServer]:
    """A server that evicts documents when it is full, and forgets all in a crash."""
    policy: dict[str, Any] = {"maxmemory_policy": "allkeys-lru", "maxmemory": "1gb"}
    with RedisServer(server_binary, appendonly="no", **policy) as server:
        yield server


def told(log: Log) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == logging.WARNING]


def use_two_namespaces(server: RedisServer, **settings: str) -> None:
    config = {"redis_url": server.url, **settings}
    with (
        SyncRedisKVStorage("full_docs", config) as documents,
        SyncRedisKVStorage("text_chunks", config) as chunks,
    ):
        for _ in range(3):
            documents.upsert({"doc-1": {}})
            chunks.get_by_id("chunk-1")


def test_a_server_that_evicts_and_forgets_is_warned_of_once(
    careless: RedisServer, caplog: Log
) -> None:
    use_two_namespaces(careless)
    evicts, forgets = told(caplog)
    assert "allkeys-lru" in evicts
    assert "CONFIG SET maxmemory-policy" in evicts
    assert "append-only" in forgets
    assert "CONFIG SET appendonly yes" in forgets


def test_nothing_is_told_of_a_server_in_order(server: RedisServer, caplog: Log) -> None:
    use_two_namespaces(server)
    assert told(caplog) == []


def test_a_user_who_may_ask_neither_info_nor_config_is_told_once_and_works(
    server_binary: Path, caplog: Log
) -> None:
    user = "user ann on nopass ~* +@all -info -config"
    with RedisServer(server_binary, config=(user,)) as server:
        use_two_namespaces(server, redis_username="ann", redis_password="any")
    (line,) = (line for line in told(caplog) if "INFO" in line)
    assert "grant +info" in line


def test_a_first_call_that_is_cancelled_leaves_the_look_to_the_next(
    careless: RedisServer, caplog: Log
) -> None:
    async def main() -> None:
        async with RedisKVStorage("full_docs", {"redis_url": careless.url}) as documents:
            careless.pause()
            first = asyncio.ensure_future(documents.get_by_id("doc-1"))
            await asyncio.sleep(0.05)
            first.cancel()
            careless.resume()
            await documents.get_by_id("doc-1")
            await documents.get_by_id("doc-1")

    try:
        asyncio.run(main())
    finally:
        careless.resume()
    eventually(lambda: len(told(caplog)) == 2)
