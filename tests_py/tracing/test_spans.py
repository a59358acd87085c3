"""Spans of calls: names and attributes by the conventions, no value, ids when asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from nano_graphrag_redis import (
    CorruptValueError,
    RedisKVStorage,
    StorageError,
    SyncRedisKVStorage,
)
from support.servers import RedisServer, server_binaries

_exporter = InMemorySpanExporter()
Spans = Callable[[], list[ReadableSpan]]


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """A span is the same of every server."""
    return server_binaries()["valkey"]


@pytest.fixture(scope="session", autouse=True)
def tracer() -> None:
    """The tracer of a service; a process has one."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_exporter))
    trace.set_tracer_provider(provider)


@pytest.fixture
def spans() -> Iterator[Spans]:
    """The spans that have ended, in their order."""
    _exporter.clear()
    yield lambda: list(_exporter.get_finished_spans())
    _exporter.clear()


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


CALLS: dict[str, tuple[Callable[[Any], Any], str, int | None]] = {
    "upsert": (lambda s: s.upsert({"a": "canary", "b": 1}), "BATCH SET", 2),
    "get_by_id": (lambda s: s.get_by_id("a"), "GET", None),
    "get_by_ids": (lambda s: s.get_by_ids(iter(["a", "b", "c"])), "BATCH GET", 3),
    "filter_keys": (lambda s: s.filter_keys({"a"}), "EXISTS", None),
    "all_keys": (lambda s: s.all_keys(), "SCAN", None),
    "index_done": (lambda s: s.index_done_callback(), "WAIT", None),
    "ping": (lambda s: s.check_health(), "PING", None),
    "stats": (lambda s: s.get_stats(), "MEMORY USAGE", None),
    "delete_by_id": (lambda s: s.delete_by_id("a"), "UNLINK", None),
    "delete_by_ids": (lambda s: s.delete_by_ids(["a", "b"]), "BATCH UNLINK", 2),
    "drop": (lambda s: s.drop(), "UNLINK", None),
}


@pytest.mark.parametrize("awaited", [True, False])
def test_each_call_is_one_span_by_the_conventions(
    server: RedisServer, spans: Spans, *, awaited: bool
) -> None:
    settings = {"redis_url": f"{server.url}/3", "redis_tracing": "on"}

    async def run() -> None:
        async with RedisKVStorage("full_docs", settings) as storage:
            for call, _, _ in CALLS.values():
                await call(storage)

    if awaited:
        asyncio.run(run())
    else:
        with SyncRedisKVStorage("full_docs", settings) as storage:
            for call, _, _ in CALLS.values():
                call(storage)
    ended = spans()
    assert [told(span)["nano_graphrag.operation"] for span in ended] == list(CALLS)
    for span, (_, command, size) in zip(ended, CALLS.values(), strict=True):
        attributes = told(span)
        assert (span.name, span.kind) == (f"{command} full_docs", trace.SpanKind.CLIENT)
        assert attributes["db.operation.name"] == command
        assert attributes.get("db.operation.batch.size") == size
        assert attributes["db.system.name"] == "redis"
        assert attributes["db.namespace"] == "3"
        assert (attributes["server.address"], attributes["server.port"]) == (
            "127.0.0.1",
            server.port,
        )
        assert span.status.is_unset
        assert "canary" not in span.to_json()
        assert "nano_graphrag.ids" not in attributes


def test_ids_are_told_when_asked_for_and_no_more_than_a_hundred(
    server: RedisServer, spans: Spans
) -> None:
    settings = {"redis_url": server.url, "redis_tracing": "ids"}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.get_by_id("doc-1")
        storage.get_by_ids([str(i) for i in range(1000)])
    one, many = spans()
    assert told(one)["nano_graphrag.ids"] == ("doc-1",)
    assert told(many)["nano_graphrag.ids"] == tuple(map(str, range(100)))
    assert told(many)["db.operation.batch.size"] == 1000


def test_a_failure_is_told_by_its_class_and_not_by_its_message(
    server: RedisServer, spans: Spans, redis_client: redis.Redis
) -> None:
    redis_client.set("nano_graphrag:full_docs:secret-id", "{ canary")
    settings = {"redis_url": server.url, "redis_tracing": "on"}
    with SyncRedisKVStorage("full_docs", settings) as storage, pytest.raises(CorruptValueError):
        storage.get_by_id("secret-id")
    (span,) = spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert told(span)["error.type"] == "CorruptValueError"
    shown = json.dumps(json.loads(span.to_json()))
    assert "canary" not in shown
    assert "secret-id" not in shown


def test_a_call_that_is_cancelled_ends_its_span(spans: Spans) -> None:
    async def run(url: str) -> None:
        async with RedisKVStorage("full_docs", {"redis_url": url, "redis_tracing": "on"}) as docs:
            await docs.check_health()
            server.pause()
            waiting = asyncio.ensure_future(docs.all_keys())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            server.resume()

    with RedisServer() as server:
        asyncio.run(run(server.url))
    assert [told(span).get("error.type") for span in spans()] == [None, "CancelledError"]


def test_a_span_is_the_child_of_the_callers(server: RedisServer, spans: Spans) -> None:
    async def run() -> None:
        settings = {"redis_url": server.url, "redis_tracing": "on"}
        async with RedisKVStorage("full_docs", settings) as docs:
            with trace.get_tracer("service").start_as_current_span("request"):
                await asyncio.gather(*(docs.get_by_id(str(i)) for i in range(3)))

    asyncio.run(run())
    *calls, request = spans()
    assert request.name == "request"
    assert {call.parent.span_id for call in calls if call.parent} == {request.context.span_id}


def test_no_credential_is_in_a_span(spans: Spans) -> None:
    with RedisServer(password="canary") as server:
        url = f"redis://:canary@127.0.0.1:{server.port}"
        settings = {"redis_url": url, "redis_tracing": "ids"}
        with SyncRedisKVStorage("full_docs", settings) as docs:
            docs.get_by_id("a")
    (span,) = spans()
    assert "canary" not in span.to_json()


def test_off_there_are_none_and_the_store_is_the_bare_one(
    server: RedisServer, spans: Spans
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as docs:
        docs.get_by_id("a")
        assert docs._backend.calls is docs._backend.store
    assert spans() == []


WRONG: tuple[Callable[[Any], Any], ...] = (
    lambda s: s.get_by_ids("abc"),
    lambda s: s.get_by_id(5),
    lambda s: s.upsert([("a", 1)]),
    lambda s: s.filter_keys(5),
)


@pytest.mark.parametrize("tracing", ["off", "ids"])
def test_wrong_arguments_raise_what_they_raise_without(server: RedisServer, tracing: str) -> None:
    settings = {"redis_url": server.url, "redis_tracing": tracing}
    with SyncRedisKVStorage("full_docs", settings) as docs:
        for call in WRONG:
            with pytest.raises(TypeError) as raised:
                call(docs)
            assert not isinstance(raised.value, StorageError)
