"""A service that knows nothing of this package, under ``run``: its workers pay once for all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.conditions import eventually
from support.host import BOOK, Llm, running_llm
from support.servers import RedisServer
from support.service import Service

LETTERS = 8_000
"""Of the book: enough for a graph with many ties, and indexed in seconds."""

WORKERS = 4
OTHERS = ["Marley", "the clerk", "the nephew", "the fog", "London", "the partner"]
OTHERS += ["Christmas", "the door", "the fire", "the counting-house"]
QUESTIONS = [f"Who is Scrooge, and what has he to do with {other}?" for other in OTHERS]

SERVICE = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI
from nano_graphrag import GraphRAG, QueryParam

@asynccontextmanager
async def lifespan(app):
    app.state.rag = GraphRAG(working_dir="./work")
    yield

app = FastAPI(lifespan=lifespan)

@app.get("/ask")
async def ask(question: str):
    answer = await app.state.rag.aquery(question, QueryParam(mode="local"))
    return {"answer": answer, "worker": os.getpid()}

@app.get("/stores")
def stores():
    rag = app.state.rag
    four = (rag.full_docs, rag.text_chunks, rag.community_reports, rag.llm_response_cache)
    return {"worker": os.getpid(), "stores": [type(store).__name__ for store in four]}
"""

MAIN = f"""
import uvicorn

if __name__ == "__main__":
    uvicorn.run("service:app", workers={WORKERS}, port=0, timeout_worker_healthcheck=120)
"""

INDEX = """
from pathlib import Path
from nano_graphrag import GraphRAG
GraphRAG(working_dir="./work").insert(Path("book.txt").read_text(encoding="utf-8"))
"""

LINE = ["service:app", "--workers", str(WORKERS), "--port", "0"]
LINE += ["--timeout-worker-healthcheck", "120"]

WAYS = {
    "a script that calls uvicorn.run": ["main.py"],
    "a module": ["-m", "uvicorn", *LINE],
    "a command": ["uvicorn", *LINE],
}


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    text = BOOK.read_text(encoding="utf-8")
    start = text.index("Marley was dead, to begin with.")
    (tmp_path / "book.txt").write_text(text[start:][:LETTERS], encoding="utf-8")
    for name, source in {"service": SERVICE, "main": MAIN, "index": INDEX}.items():
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


def environment(llm: Llm, server: RedisServer) -> dict[str, str]:
    """The two variables of the README, and where the language model is."""
    ours = ("REDIS_", "STORAGE_", "PYTHONHASHSEED")
    around = {**os.environ, **llm.environment}
    outside = {name: value for name, value in around.items() if not name.startswith(ours)}
    two = {"STORAGE_KV_BACKEND": "redis", "REDIS_URL": server.url}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**outside, **two, "PATH": path}


@contextmanager
def running(way: str, home: Path, environ: dict[str, str]) -> Iterator[Service]:
    log = home / "service.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["nano-graphrag-redis", "run", *WAYS[way]],
            env=environ, cwd=home, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            eventually(lambda: log.read_text().count("startup complete") == WORKERS, 240)
            found = re.search(r"running on (http://\S+)", log.read_text())
            assert found, log.read_text()
            yield Service(found[1], log)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def stores(service: Service) -> dict[int, list[str]]:
    """The classes of each worker's four stores, by process id."""
    heard: dict[int, list[str]] = {}

    def all_heard() -> bool:
        said = json.loads(httpx.get(f"{service.url}/stores", timeout=120).text)
        heard[said["worker"]] = said["stores"]
        return len(heard) == WORKERS

    eventually(all_heard, 60)
    return heard


@pytest.mark.timeout(900)  # five imports of the host, which takes seconds of processor time
@pytest.mark.parametrize("way", WAYS)
def test_ten_questions_to_each_of_four_workers_are_ten_calls(
    way: str, llm: Llm, home: Path
) -> None:
    with RedisServer() as server:
        environ = environment(llm, server)
        subprocess.run(
            ["nano-graphrag-redis", "run", "index.py"],
            env=environ, cwd=home, check=True, capture_output=True,
        )  # fmt: skip
        with running(way, home, environ) as service:
            assert set(map(tuple, stores(service).values())) == {("RedisKVStorage",) * 4}
            before = llm.calls()
            answers = [service.answers(question, WORKERS) for question in QUESTIONS]
            paid = llm.calls() - before
    assert {len(each) for each in answers} == {WORKERS}
    del paid["embedding"]  # the host caches none
    assert paid == {"local answer": len(QUESTIONS)}
