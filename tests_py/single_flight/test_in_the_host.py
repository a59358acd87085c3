"""The real host in several processes, before an LLM that takes its time: one call a question."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.host import ROOT, running_llm
from support.preloaded import Preloaded
from support.servers import RedisServer

WORKERS, TASKS = 3, 8
SECONDS = 1.0

HOST = """
import asyncio, json, os, sys

import nano_graphrag_redis
nano_graphrag_redis.register()
from nano_graphrag import GraphRAG

rag = GraphRAG(working_dir=sys.argv[1])
assert type(rag.llm_response_cache).__name__ == "RedisKVStorage"
print("ready", flush=True)
sys.stdin.readline()

async def main():
    questions = ["Who was dead?", "Who was not?"] * (int(sys.argv[2]) // 2)
    return await asyncio.gather(*(rag.best_model_func(question) for question in questions))

print(json.dumps(asyncio.run(main())), flush=True)
"""
"""As upstream asks: through its limit of concurrent calls, and its cache before the model."""


class SlowLlm(ThreadingHTTPServer):
    """An OpenAI-compatible server that counts, and answers each question after a while."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = asked["messages"][-1]["content"]
        assert isinstance(self.server, SlowLlm)
        self.server.asked[question] += 1
        time.sleep(SECONDS)
        message = {"role": "assistant", "content": f"{question} {time.monotonic()}"}
        body = json.dumps(
            {
                "id": "chatcmpl-slow",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def slow_llm() -> Iterator[SlowLlm]:
    with SlowLlm() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.any_server
@pytest.mark.timeout(300)
def test_processes_of_the_host_that_ask_the_same_pay_for_one_call_a_question(
    host: Preloaded, server: RedisServer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running_llm() as demo, slow_llm() as llm, log.open("a") as errors, ExitStack() as stack:
        environment = {
            **demo.environment,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{llm.server_address[1]}/v1",
            "STORAGE_KV_BACKEND": "redis",
            "REDIS_URL": server.url,
            "REDIS_SINGLE_FLIGHT": "on",
        }
        started = [
            stack.enter_context(
                host.start(
                    ["-c", HOST, str(tmp_path / f"worker-{number}"), str(TASKS)],
                    env=environment, stderr=errors, cwd=ROOT,
                )
            )
            for number in range(WORKERS)
        ]  # fmt: skip
        for each in started:
            assert each.stdout.readline() == "ready\n", log.read_text()
        # All of them at once.
        for each in started:
            print(file=each.stdin, flush=True)
        said = [each.stdout.read() for each in started]
        assert [each.wait() for each in started] == [0] * WORKERS, log.read_text()
    assert llm.asked == {"Who was dead?": 1, "Who was not?": 1}
    answers = [answer for out in said for answer in json.loads(out)]
    assert len(answers) == WORKERS * TASKS
    assert len(set(answers)) == 2
