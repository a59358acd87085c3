"""A service that knows nothing of this package, under ``run``: its workers pay once for all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.conditions import eventually
from support.host import BOOK, Llm, running_llm
from support.servers import RedisServer

LETTERS = 6_000
"""Of the book: indexed in seconds."""

NAMES = ["Mrs. Cratchit", "Tim", "Peter", "Martha", "Belinda", "Topper", "Fan", "Belle"]
NAMES += ["Fezziwig", "Dick Wilkins", "Mrs. Dilber", "Caroline"]
TIES = "".join(f"\n\nScrooge remembered {name} on that cold afternoon." for name in NAMES)
"""Relations of one rank and one weight, which the host puts in the order of string hashes: workers
of different seeds make different prompts. The book by itself has no two of them."""

LLM_SECONDS = 1.0
"""How long an answer takes: everybody asks before the first of them is there."""

CONNECTIONS = 1_000
"""How many are opened at most until each worker has taken its share: the kernel chooses."""

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
    uvicorn.run(
        "service:app",
        workers={WORKERS},
        port=0,
        timeout_worker_healthcheck=120,
        timeout_keep_alive=120,
    )
"""

INDEX = """
from pathlib import Path
from nano_graphrag import GraphRAG
GraphRAG(working_dir="./work").insert(Path("book.txt").read_text(encoding="utf-8"))
"""

LINE = ["service:app", "--workers", str(WORKERS), "--port", "0"]
LINE += ["--timeout-worker-healthcheck", "120", "--timeout-keep-alive", "120"]

WAYS = {
    "a script that calls uvicorn.run": ["main.py"],
    "a module": ["-m", "uvicorn", *LINE],
    "a command": ["uvicorn", *LINE],
}


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm(LLM_SECONDS) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    text = BOOK.read_text(encoding="utf-8")
    start = text.index("Marley was dead, to begin with.")
    (tmp_path / "book.txt").write_text(text[start:][:LETTERS] + TIES, encoding="utf-8")
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
def running(way: str, home: Path, environ: dict[str, str]) -> Iterator[tuple[str, int]]:
    """The service's host and port."""
    log = home / "service.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["nano-graphrag-redis", "run", *WAYS[way]],
            env=environ, cwd=home, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            eventually(lambda: log.read_text().count("startup complete") == WORKERS, 240)
            found = re.search(r"running on http://([\d.]+):(\d+)", log.read_text())
            assert found, log.read_text()
            yield found[1], int(found[2])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def told(connection: HTTPConnection, path: str) -> dict[str, Any]:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    said: dict[str, Any] = json.loads(body)
    return said


def connections(address: tuple[str, int], open_ones: ExitStack) -> dict[int, list[HTTPConnection]]:
    """As many kept-alive connections to each worker as there are questions, by process id."""
    heard: dict[int, list[HTTPConnection]] = {}
    for _ in range(CONNECTIONS):
        connection = open_ones.enter_context(closing(HTTPConnection(*address, timeout=120)))
        said = told(connection, "/stores")
        assert said["stores"] == ["RedisKVStorage"] * 4
        heard.setdefault(said["worker"], []).append(connection)
        if len(heard) == WORKERS and min(map(len, heard.values())) >= len(QUESTIONS):
            return {worker: mine[: len(QUESTIONS)] for worker, mine in heard.items()}
    raise AssertionError({worker: len(mine) for worker, mine in heard.items()})


def asked_at_once(address: tuple[str, int]) -> dict[str, dict[int, str]]:
    """The answers to each question by worker: each of them is asked all questions at once."""
    answers: dict[str, dict[int, str]] = {question: {} for question in QUESTIONS}
    with ExitStack() as open_ones, ThreadPoolExecutor(WORKERS * len(QUESTIONS)) as pool:
        asking = [
            (question, worker, connection)
            for worker, mine in connections(address, open_ones).items()
            for question, connection in zip(QUESTIONS, mine, strict=True)
        ]
        said = pool.map(lambda each: told(each[2], f"/ask?question={quote(each[0])}"), asking)
        for (question, worker, _), answer in zip(asking, said, strict=True):
            assert answer["worker"] == worker
            answers[question][worker] = answer["answer"]
    return answers


@pytest.mark.timeout(900)  # five imports of the host, which takes seconds of processor time
@pytest.mark.parametrize("way", WAYS)
def test_ten_questions_to_each_of_four_workers_at_once_are_ten_calls(
    way: str, llm: Llm, home: Path
) -> None:
    with RedisServer() as server:
        environ = environment(llm, server)
        subprocess.run(
            ["nano-graphrag-redis", "run", "index.py"],
            env=environ, cwd=home, check=True, capture_output=True,
        )  # fmt: skip
        with running(way, home, environ) as address:
            before = llm.calls()
            answers = asked_at_once(address)
            paid = llm.calls() - before
    assert {len(each) for each in answers.values()} == {WORKERS}
    assert {len(set(each.values())) for each in answers.values()} == {1}
    assert paid == Counter({"local answer": len(QUESTIONS), "embedding": len(QUESTIONS)})
