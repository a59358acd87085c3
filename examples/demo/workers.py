"""Users of a service of several workers ask the same at the same time: how often is it paid?"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from .llm_server import LlmServer

WORKERS = 3
USERS = 12
QUESTIONS = [
    f"Who is Scrooge, and what has he to do with {other}?"
    for other in ("his nephew", "the Ghost of Christmas Past", "Fezziwig")
]
LLM_SECONDS = 1.0
"""How long the scripted stub takes for an answer here: as long as a fast model."""

_START = 240.0
_ROOT = Path(__file__).parents[2]
_UVICORN = ["-m", "uvicorn", "examples.demo.service:app", "--workers", str(WORKERS), "--port", "0"]
_UVICORN += ["--timeout-worker-healthcheck", "120"]  # importing the host takes seconds


@dataclass
class Bill:
    """What the users cost.

    Attributes:
        stores: Where the service keeps what its workers share, if anything.
        asked: Questions that were asked, each user's counted.
        paid: Calls of the LLM that they led to.
        seconds: Until the last user had the last answer.
        answers: The answers to each question.
        workers: How many answers each worker gave.
    """

    stores: str
    asked: int
    paid: int
    seconds: float
    answers: dict[str, set[str]]
    workers: Counter[int]


def serve_and_ask(stores: str, home: Path, llm: LlmServer, **environ: str) -> Bill:
    """Starts the service with ``nano-graphrag-redis run``, has everybody ask, and ends it.

    Raises:
        SystemExit: It did not start; the end of its log is shown.
    """
    with (
        _service(home / f"service-{stores.replace(' ', '-')}.log", environ) as address,
        ThreadPoolExecutor(USERS) as users,
    ):
        paid = _chats(llm.calls)
        began = time.monotonic()
        answers: dict[str, set[str]] = {}
        workers: Counter[int] = Counter()
        for question in QUESTIONS:
            url = f"{address}/ask?question={quote(question)}"
            for said in users.map(_asked, [url] * USERS):
                answers.setdefault(question, set()).add(said["answer"])
                workers[said["worker"]] += 1
        seconds = time.monotonic() - began
        paid = _chats(llm.calls) - paid
    return Bill(stores, USERS * len(QUESTIONS), paid, seconds, answers, workers)


def _asked(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=120) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def _chats(calls: Mapping[str, int]) -> int:
    return sum(calls.values()) - calls.get("embedding", 0)


@contextmanager
def _service(log: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The address of the service, once all of its workers have started."""
    with log.open("w") as said:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "nano_graphrag_redis",
                "run",
                *_UVICORN,
                "--timeout-worker-healthcheck",
                "120",
            ],
            cwd=_ROOT,
            env={**os.environ, **environ},
            stdout=said,
            stderr=said,
        )
        try:
            yield _address(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START
    while log.read_text().count("startup complete") < WORKERS:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"The service did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)
    found = re.search(r"running on (http://\S+)", log.read_text())
    assert found is not None
    return found[1]
