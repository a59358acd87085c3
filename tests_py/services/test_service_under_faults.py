"""The same service while a leader is killed, Redis restarts, and a document is inserted beside."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from support.conditions import eventually
from support.host import BOOK, running_llm
from support.servers import RedisServer

from .test_unchanged_service import (
    LETTERS,
    QUESTIONS,
    WORKERS,
    connections,
    environment,
    home,
    running,
    told,
)

__all__ = ["home"]

LLM_SECONDS = 10.0
"""Long enough to be killed in."""

LEADER = f"""
import asyncio
from nano_graphrag import GraphRAG, QueryParam
rag = GraphRAG(working_dir="./work")

async def main():
    await asyncio.gather(*(rag.aquery(q, QueryParam(mode="local")) for q in {QUESTIONS!r}))

asyncio.run(main())
"""
"""Asks before everybody else, as a job that warms the cache does."""

INSERT = """
from pathlib import Path
from nano_graphrag import GraphRAG
GraphRAG(working_dir="./work").insert(Path("more.txt").read_text(encoding="utf-8"))
"""


def calls(client: redis.Redis, command: str) -> int:
    found: Any = client.info("commandstats")
    return int(found.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def leases(client: redis.Redis) -> int:
    keys: Any = client.keys("*@lease:*llm_response_cache*")
    return len(keys)


@pytest.mark.timeout(900)  # seven imports of the host, which takes seconds of processor time
def test_no_error_reaches_a_client_and_only_killed_calls_are_paid_again(home: Path) -> None:
    text = BOOK.read_text(encoding="utf-8")
    (home / "more.txt").write_text(text[text.index("Stave") :][-LETTERS:], encoding="utf-8")
    (home / "leader.py").write_text(LEADER)
    (home / "insert.py").write_text(INSERT)
    with (
        running_llm() as quick,
        running_llm(LLM_SECONDS) as llm,
        RedisServer(appendonly="yes", appendfsync="always") as server,
        server.client() as client,
        ExitStack() as stack,
    ):
        subprocess.run(
            ["nano-graphrag-redis", "run", "index.py"],
            env=environment(quick, server), cwd=home, check=True, capture_output=True,
        )  # fmt: skip
        environ = environment(llm, server)

        def started(script: str) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(
                    ["nano-graphrag-redis", "run", script],
                    env=environ, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
            stack.callback(process.kill)
            return process

        address = stack.enter_context(running("a module", home, environ))
        pool = stack.enter_context(ThreadPoolExecutor(WORKERS * len(QUESTIONS)))
        open_ones = connections(address, stack)
        inserting = started("insert.py")
        eventually(lambda: not client.keys("nano_graphrag:community_reports:*"), 120)
        before = llm.calls()["local answer"]
        leader = started("leader.py")
        eventually(lambda: llm.calls()["local answer"] - before == len(QUESTIONS), 120)
        client.config_resetstat()
        asked = [
            pool.submit(told, connection, f"/ask?question={quote(question)}")
            for mine in open_ones.values()
            for question, connection in zip(QUESTIONS, mine, strict=True)
        ]
        # Each worker has asked for each lease.
        eventually(lambda: calls(client, "set") >= WORKERS * len(QUESTIONS), 60)
        assert leases(client) >= len(QUESTIONS)  # it calls still; the insert has leases too
        leader.kill()
        # Somebody has taken over.
        eventually(lambda: llm.calls()["local answer"] - before > len(QUESTIONS), 60)
        assert inserting.poll() is None
        server.kill()
        server.begin()
        answers = [each.result()["answer"] for each in asked]
        paid = llm.calls()["local answer"] - before
    assert len(answers) == WORKERS * len(QUESTIONS)
    assert paid <= len(QUESTIONS) * 2  # each was killed once
