"""An OpenAI-compatible server on the loopback: chat completions and embeddings, counted.

Offline and deterministic; or, with ``relay_to``, only the counter in front of a real service.

``python -m examples.demo.llm_server [SECONDS]`` serves until its standard input ends; each answer
of the offline model takes that long. It prints one line of JSON, the environment variables that
lead the host to it; ``GET {OPENAI_BASE_URL}/calls`` tells how often it was asked for what.
"""

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .embedding import embed
from .environment import same_words, without_network
from .model import UnknownPromptError, task_of

if TYPE_CHECKING:
    from typing_extensions import Self

_RELAY_SECONDS = 300.0


class LlmServer(ThreadingHTTPServer):
    """The server, on a free loopback port; serves from a thread of its own inside a ``with`` block.

    Args:
        relay_to: The base URL of the service that answers instead of the offline model.

    Attributes:
        calls: How often it was asked for what: ``embedding``, or the name of a chat task.
        seconds: How long the offline model takes for an answer.
    """

    daemon_threads = True
    request_queue_size = (
        128  # the host sends sixteen calls of each model and of the embeddings at once
    )

    def __init__(self, relay_to: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.relay_to = relay_to
        self.calls: Counter[str] = Counter()
        self.seconds = 0.0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def base_url(self) -> str:
        """The value for ``OPENAI_BASE_URL``."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def count(self, what: str) -> None:
        """Note one call."""
        with self._counting:
            self.calls[what] += 1

    def __enter__(self) -> "Self":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    # The host keeps one OpenAI client for all its event loops, and a connection kept alive by a
    # loop that has ended would fail the next call: so each reply closes its connection.
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        if self.path == "/v1/calls":
            self._send(200, dict(self._llm.calls))
        else:
            self._refuse(404, f"No such page: {self.path}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/chat/completions":
            self._complete(body)
        elif self.path == "/v1/embeddings":
            self._embed(body)
        else:
            self._refuse(404, f"No such page: {self.path}")

    def _complete(self, body: bytes) -> None:
        asked = json.loads(body)
        question = asked["messages"][-1]["content"]
        system = [said["content"] for said in asked["messages"] if said["role"] == "system"]
        prompt = "\n".join([*system, question])
        try:
            task = task_of(prompt)
        except UnknownPromptError as error:
            self._refuse(400, str(error))
            return
        self._llm.count(task.name)
        if self._llm.relay_to is not None:
            self._relay(self._llm.relay_to, body)
            return
        time.sleep(self._llm.seconds)
        reply = {"role": "assistant", "content": task.answer(prompt, question)}
        self._send(
            200,
            {
                "id": "chatcmpl-offline",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [{"index": 0, "message": reply, "finish_reason": "stop"}],
            },
        )

    def _embed(self, body: bytes) -> None:
        asked = json.loads(body)
        self._llm.count("embedding")
        if self._llm.relay_to is not None:
            self._relay(self._llm.relay_to, body)
            return
        data = [
            {"object": "embedding", "index": index, "embedding": embed(text)}
            for index, text in enumerate(asked["input"])
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        self._send(200, {"object": "list", "data": data, "model": asked["model"], "usage": usage})

    def _relay(self, service: str, body: bytes) -> None:
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
        request = Request(service + self.path.removeprefix("/v1"), body, headers)
        try:
            with urlopen(request, timeout=_RELAY_SECONDS) as response:
                self._send_bytes(response.status, response.read())
        except HTTPError as refusal:
            self._send_bytes(refusal.code, refusal.read())

    @property
    def _llm(self) -> LlmServer:
        return cast("LlmServer", self.server)

    def _refuse(self, status: int, why: str) -> None:
        self._send(status, {"error": {"message": why, "type": "invalid_request_error"}})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        self._send_bytes(status, json.dumps(answer).encode())

    def _send_bytes(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was asked is counted, not logged."""


def main() -> None:
    """Serve until standard input ends, so that a killed parent leaves no server behind."""
    with LlmServer() as server:
        server.seconds = float(next(iter(sys.argv[1:]), 0.0))
        print(json.dumps({**without_network(server.base_url), **same_words()}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
