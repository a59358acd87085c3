"""The log: one line for each change of state, which says what it is about, and none for a call."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage, StorageError, SyncRedisKVStorage
from support.conditions import eventually
from support.servers import RedisServer

LOGGER = "nano_graphrag_redis"


def extra(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name, None) for name in ("event", "namespace", "endpoint"))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger=LOGGER)
    return caplog


def test_a_thousand_calls_are_one_line(server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with RedisKVStorage("full_docs", {"redis_url": server.url}) as docs:
            await asyncio.gather(*(docs.upsert({str(i): i}) for i in range(500)))
            await asyncio.gather(*(docs.get_by_id(str(i)) for i in range(500)))
            await docs.get_by_ids(map(str, range(500)))
            await docs.drop()

    asyncio.run(run())
    (connected,) = log.records
    assert (connected.name, connected.levelno) == (LOGGER, logging.INFO)
    assert extra(connected) == ("connected", "full_docs", f"{server.url}/0")
    assert connected.getMessage() == f"{server.url}/0: connected"


def test_the_breaker_is_one_line_when_it_opens_and_one_when_it_closes(
    log: pytest.LogCaptureFixture,
) -> None:
    settings = {"redis_max_retries": 0, "redis_breaker_recovery": 0.05}
    with (
        RedisServer() as server,
        SyncRedisKVStorage("full_docs", {"redis_url": server.url, **settings}) as docs,
        SyncRedisKVStorage("text_chunks", {"redis_url": server.url, **settings}) as chunks,
    ):
        docs.upsert({"a": 1})
        log.clear()
        server.kill()
        for _ in range(20):
            for storage in (docs, chunks):
                with pytest.raises(StorageError):
                    storage.get_by_id("a")
        (opened,) = log.records
        assert (opened.levelno, opened.event) == (logging.WARNING, "breaker_open")  # type: ignore[attr-defined]
        server.start()
        eventually(docs.check_health)
        eventually(chunks.check_health)
        for _ in range(20):
            chunks.get_by_id("a")
    _, closed = log.records
    assert (closed.levelno, closed.event) == (logging.INFO, "breaker_closed")  # type: ignore[attr-defined]
    assert f"{server.url}/0" in closed.getMessage()


def test_an_outage_says_which_namespace_goes_without(log: pytest.LogCaptureFixture) -> None:
    settings = {
        "redis_url": "redis://127.0.0.1:1",
        "redis_max_retries": 0,
        "redis_breaker_failures": 100,
    }
    with SyncRedisKVStorage("llm_response_cache", settings) as cache:
        for _ in range(3):
            assert cache.get_by_id("a") is None
    (began,) = log.records
    assert extra(began) == ("outage_began", "llm_response_cache", "redis://127.0.0.1:1/0")
