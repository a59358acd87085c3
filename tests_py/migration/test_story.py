"""A service of the real host moves from JSON files to Redis and back, and pays nothing twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import migration
from support.conditions import eventually
from support.host import BOOK, Llm, Run, run_host, running_llm
from support.preloaded import Preloaded
from support.servers import RedisServer

SCENARIO = Path(__file__).parents[1] / "host_e2e" / "scenario.py"
LETTERS = 5_000
"""Of each of the three documents of the service: a chunk or two."""


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm() as running:
        yield running


class Service:
    """The host in one working directory, a process at a time, as an operator starts it."""

    def __init__(self, host: Preloaded, llm: Llm, home: Path, url: str) -> None:
        self.host, self.llm = host, llm
        self.working_dir = home / "cache"
        self.settings: dict[str, Any] = {"redis_url": url}
        text = BOOK.read_text(encoding="utf-8")
        start = text.index("Marley was dead, to begin with.")
        self.documents = []
        for number in range(3):
            document = home / f"document-{number}.txt"
            first = start + number * LETTERS
            document.write_text(text[first : first + LETTERS], encoding="utf-8")
            self.documents.append(document)

    def on_json(self, step: str, document: int) -> Run:
        return self._run("json", step, document, STORAGE_KV_BACKEND="json")

    def on_redis(self, step: str, document: int, **variables: str) -> Run:
        url = self.settings["redis_url"]
        both = {"STORAGE_KV_BACKEND": "redis", "REDIS_URL": url, **variables}
        return self._run("environment", step, document, **both)

    def _run(self, backend: str, step: str, document: int, **variables: str) -> Run:
        book = self.documents[document]
        return run_host(
            self.host, self.llm, SCENARIO, backend, step,
            working_dir=self.working_dir, book=book, **variables,
        )  # fmt: skip

    def files(self) -> dict[str, Any]:
        """What the JSON files hold, by namespace."""
        return {
            path.stem.removeprefix("kv_store_"): json.loads(path.read_text(encoding="utf-8"))
            for path in self.working_dir.glob("kv_store_*.json")
        }


def chats(run: Run) -> int:
    """What it asked of the language model but embeddings, which the host does not cache."""
    return run.calls.total() - run.calls["embedding"]


@pytest.mark.timeout(900)
def test_a_service_moves_to_redis_and_back_and_loses_nothing(
    host: Preloaded, llm: Llm, tmp_path: Path
) -> None:
    with RedisServer() as server:
        service = Service(host, llm, tmp_path, server.url)
        settings = service.settings

        # JSON in service; what is there is copied while the service indexes and answers.
        serving: list[Run] = []
        thread = threading.Thread(target=lambda: serving.append(service.on_json("index", 0)))
        thread.start()
        cache = service.working_dir / "kv_store_llm_response_cache.json"
        eventually_slowly(cache.exists)
        migration.migrate(migration.plan(service.working_dir, settings))
        copied = server.client().dbsize()
        assert copied > 0
        thread.join()
        (on_json,) = serving
        assert chats(on_json) > 0

        # The writers have stopped: the rest is copied, and both are the same.
        assert migration.migrate(migration.plan(service.working_dir, settings)).ok
        assert migration.verify(service.working_dir, settings).ok

        # Redis in service, with dual writing: nothing is paid again, a second document is indexed.
        second = service.on_redis("index", 1, REDIS_DUAL_WRITE="true")
        assert second.storage == "RedisKVStorage"
        assert len(second.stores["full_docs"]) == 2
        assert (
            second.stores["llm_response_cache"].keys() > on_json.stores["llm_response_cache"].keys()
        )
        assert service.files() == second.stores
        assert migration.verify(service.working_dir, settings).ok

        # Back by the dual-written files: the same answers, for nothing.
        back = service.on_json("ask", 1)
        assert (back.storage, chats(back)) == ("JsonKVStorage", 0)
        assert (back.stores, back.answers[0]) == (second.stores, second.answers[0])

        # It is trusted: dual writing is off, and the files stay behind.
        third = service.on_redis("index", 2)
        assert len(third.stores["full_docs"]) == 3
        assert service.files() == second.stores

        # Back by an export.
        migration.export(service.working_dir, settings)
        assert service.files() == third.stores
        back = service.on_json("ask", 2)
        assert (back.stores, back.answers[0], chats(back)) == (third.stores, third.answers[0], 0)


def eventually_slowly(condition: Any) -> None:
    """As `eventually`, for what takes the host's imports and its first LLM calls."""
    for _ in range(10):
        try:
            eventually(condition)
        except AssertionError:
            continue
        return
    eventually(condition)
