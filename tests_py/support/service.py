"""The example of a service, running: uvicorn with several workers."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.conditions import eventually
from support.host import ROOT, Llm
from support.pages import commands
from support.preloaded import Preloaded
from support.servers import RedisServer

ROUNDS = 100
"""How often as many questions as there are workers are asked at once, until each has answered."""


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: Where it listens.
        log: What its workers have said.
    """

    url: str
    log: Path

    def ask(self, question: str) -> tuple[str, int]:
        """The answer and the worker that gave it. A connection of its own, so any worker may."""
        answer = httpx.get(f"{self.url}/ask", params={"question": question}, timeout=120)
        assert answer.status_code == 200, answer.text + self.log.read_text()
        told = answer.json()
        return told["answer"], told["worker"]

    def answers(self, question: str, workers: int) -> dict[int, str]:
        """The answer of each worker, by its process id.

        The first is asked alone; then as many at once as there are workers, until each has been
        heard: which of them takes a connection is the kernel's choice.
        """
        answer, worker = self.ask(question)
        heard = {worker: answer}
        with ThreadPoolExecutor(workers) as pool:
            for _ in range(ROUNDS):
                for answer, worker in pool.map(self.ask, [question] * workers):
                    assert heard.setdefault(worker, answer) == answer
                if len(heard) == workers:
                    return heard
        raise AssertionError(f"only {len(heard)} of {workers} workers took a connection")

    def alive(self) -> bool:
        """Whether a worker answers, whatever Redis does."""
        return httpx.get(f"{self.url}/livez", timeout=60).status_code == 200

    def ready(self) -> bool:
        """Whether a worker answers that Redis does."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=60).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running_service(workers: int, home: Path, **settings: str) -> Iterator[Service]:
    """Starts the service as its README says, and ends it with its workers.

    Args:
        workers: How many.
        home: Its working directory and its log.
        settings: Its environment.
    """
    log = home / "service.log"
    line = written("uvicorn ").replace("--workers 4", f"--workers {workers}")
    # What the line leaves out: a port that is free, and patience on a busy machine.
    elsewhere = {"UVICORN_PORT": "0", "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "120"}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(line)],
            env=environment(home, {**settings, **elsewhere}), cwd=ROOT, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            eventually(lambda: "running on http" in log.read_text())
            url = log.read_text().partition("running on ")[2].split()[0]
            eventually(lambda: log.read_text().count("startup complete") == workers, 240)
            service = Service(url, log)
            assert service.alive(), log.read_text()
            yield service
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def written(start: str) -> str:
    """The one command of the service's README that begins so."""
    (line,) = [line for line in commands("examples/service/README.md") if line.startswith(start)]
    return line


def index(host: Preloaded, text: Path, home: Path, **settings: str) -> None:
    """Fills the service as its README says, with another text."""
    line = written("python ").replace("examples/demo/a-christmas-carol.txt", str(text))
    done = host.run(shlex.split(line)[1:], env=environment(home, settings), cwd=ROOT)
    assert done.returncode == 0, done.stderr


def asked_by_curl(service: Service) -> str:
    """What the README's way of asking prints."""
    line = written("curl ").replace("localhost:8000", service.url)
    return subprocess.run(shlex.split(line), check=True, capture_output=True, text=True).stdout


def environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """What the README exports, and nothing else of ours but a working directory of the test."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    exported = dict(word.split("=", 1) for word in shlex.split(written("export "))[1:])
    return outside | exported | {"WORKING_DIR": str(home / "work"), **settings}


def each_worker_answers_for_one_call(
    workers: int, host: Preloaded, llm: Llm, book: Path, server: RedisServer, *, home: Path
) -> None:
    """Asks each of so many workers the same question, and counts what the LLM was asked.

    Ends by killing the server, to see the service say so.
    """
    settings = {**llm.environment, "REDIS_URL": server.url}
    index(host, book, home, **settings)
    with running_service(workers, home, **settings) as service:
        before = llm.calls()
        answers = service.answers("Who is Scrooge?", workers)
        assert json.loads(asked_by_curl(service))["answer"] in answers.values()
        paid = llm.calls() - before
        before_the_outage = service.ready()
        told = httpx.get(f"{service.url}/metrics/", timeout=60).text
        assert 'redis_cache_hits_total{namespace="llm_response_cache"}' in told
        server.kill()
        assert (before_the_outage, service.ready(), service.alive()) == (True, False, True)
    assert len(answers) == workers
    assert len(set(answers.values())) == 1
    del paid["embedding"]  # the host caches none
    assert paid == {"local answer": 1}
