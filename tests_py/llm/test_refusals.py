"""The host's own functions, and a client, over a provider that refuses: one refusal pauses all."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from nano_graphrag import GraphRAG
from nano_graphrag import _llm as host_functions

from nano_graphrag_redis import RedisKVStorage, limit_llm
from support.servers import RedisServer

from .model import MODEL, Model, counted_since, counts, until


class ChatProvider(ThreadingHTTPServer):
    """Chat completions; refuses the requests that a test tells it to.

    Attributes:
        seen: When each request came, and whether it was refused.
        refusals: How many of the next requests are refused.
        refusal_headers: Those of a refusal.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.seen: list[tuple[float, bool]] = []
        self.refusals = 0
        self.refusal_headers: dict[str, str] = {}
        self.lock = threading.Lock()


class _Answering(BaseHTTPRequestHandler):
    server: ChatProvider

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            refused = self.server.refusals > 0
            self.server.refusals -= refused
            self.server.seen.append((time.monotonic(), refused))
        message = {"role": "assistant", "content": "an answer"}
        body = json.dumps(
            {"error": {"message": "slow down"}}
            if refused
            else {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": MODEL,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        ).encode()
        self.send_response(429 if refused else 200)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(self.server.refusal_headers if refused else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def running(provider: ChatProvider) -> Iterator[ChatProvider]:
    thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield provider
    finally:
        provider.shutdown()
        thread.join()
        provider.server_close()


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatProvider]:
    """The service that the host's own functions ask."""
    with running(ChatProvider()) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{provider.server_address[1]}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
        monkeypatch.setattr(host_functions, "global_openai_async_client", None)
        yield provider


def is_paused(client: Any) -> bool:
    """Whether the server has been told that all workers pause."""
    return any(client.hexists(key, "pause") for key in client.keys("nano_graphrag:@limit:*"))


# The client retries twice by itself, and the host's function five times around that: no exception
# ever reaches the caller, and between the attempts others would go on.
def test_a_refusal_that_the_client_hides_pauses_all_and_its_repetition_takes_a_permit(
    provider: ChatProvider, server: RedisServer
) -> None:
    settings = {"redis_url": server.url}
    provider.refusals, provider.refusal_headers = 1, {"Retry-After": "1"}
    limited = limit_llm(
        host_functions.gpt_4o_mini_complete, settings, model=MODEL, requests_per_minute=60_000
    )
    before, client = counts(), server.client()

    async def ask() -> None:
        async with RedisKVStorage("llm_response_cache", settings) as cache:
            calls = [asyncio.ensure_future(limited("first", hashing_kv=cache))]
            await until(lambda: any(refused for _, refused in provider.seen))
            await until(lambda: is_paused(client))
            calls += [
                asyncio.ensure_future(limited(f"{number}", hashing_kv=cache))
                for number in range(10)
            ]
            assert await asyncio.gather(*calls) == ["an answer"] * 11
        await host_functions.global_openai_async_client.close()

    asyncio.run(ask())
    ((refused_at, _), *others) = provider.seen
    assert min(at for at, _ in others) - refused_at > 0.95
    assert len(others) == 11
    assert counted_since(before) == {"permits": 12, "local_permits": 0, "pauses": 1}


def test_a_refusal_that_is_raised_pauses_all(
    provider: ChatProvider, server: RedisServer, model: Model
) -> None:
    provider.refusals, provider.refusal_headers = 1, {"Retry-After": "1"}
    settings = {"redis_url": server.url}
    limits: dict[str, Any] = {"model": MODEL, "requests_per_minute": 60_000}
    refusing = limit_llm(model.answer, settings, **limits)
    others = limit_llm(model.answer, settings, **limits)

    async def ask() -> None:
        async with openai.AsyncOpenAI(max_retries=0) as client:
            try:
                await client.chat.completions.create(model=MODEL, messages=[])
            except openai.RateLimitError as error:
                model.error = error
        with pytest.raises(openai.RateLimitError):
            await refusing("a")
        model.error = None
        await others("b")

    asyncio.run(ask())
    refused, later = model.asked
    assert later - refused > 0.95


def test_the_hosts_copies_of_its_configuration_leave_it_working(
    provider: ChatProvider, server: RedisServer, tmp_path: Path
) -> None:
    settings = {"redis_url": server.url}
    limits: dict[str, Any] = {"model": MODEL, "requests_per_minute": 60_000}
    rag = GraphRAG(
        working_dir=str(tmp_path),
        key_string_value_json_storage_cls=RedisKVStorage,
        addon_params=settings,
        best_model_func=limit_llm(host_functions.gpt_4o_complete, settings, **limits),
        cheap_model_func=limit_llm(host_functions.gpt_4o_mini_complete, settings, **limits),
    )
    before = counts()
    copied = asdict(rag)

    async def ask() -> None:
        for func in (rag.best_model_func, copied["best_model_func"], rag.cheap_model_func):
            for _ in range(2):
                assert await func("why?") == "an answer"
        await host_functions.global_openai_async_client.close()

    asyncio.run(ask())
    assert len(provider.seen) == 2
    assert counted_since(before)["permits"] == 2
    assert asyncio.iscoroutinefunction(limit_llm(rag.best_model_func, settings, **limits))


def test_an_exception_that_cannot_be_looked_at_reaches_the_caller(
    model: Model, server: RedisServer
) -> None:
    class OddError(Exception):
        @property
        def retry_after(self) -> float:
            raise RuntimeError("closed")

    limited = limit_llm(model.answer, {"redis_url": server.url}, model=MODEL, concurrent=1)
    model.error = OddError()
    with pytest.raises(OddError):
        asyncio.run(limited("why?"))
