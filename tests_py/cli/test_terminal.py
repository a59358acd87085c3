"""What a person at a terminal sees: bars, a question, and an end at Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from nano_graphrag_redis import SyncRedisKVStorage
from support.conditions import DEADLINE, eventually
from support.proxy import Proxy
from support.servers import RedisServer, server_binaries

CTRL_C = b"\x03"
SHOW_CURSOR = "\x1b[?25h"


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.shown = ""
        self._descriptor = descriptor

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Reads on until the terminal shows it."""
        deadline = time.monotonic() + DEADLINE
        while (found := re.search(pattern, self.shown, re.DOTALL)) is None:
            assert time.monotonic() < deadline, f"no {pattern} in {self.shown[-300:]!r}"
            assert self._read(), f"no {pattern} in {self.shown[-300:]!r}"
        return found

    def wait_until_asked(self) -> None:
        """Until the program reads its terminal: a signal just before that waits for a key."""
        call = Path(f"/proc/{self.process.pid}/syscall")

        def reads() -> bool:
            first_argument = call.read_text().split()[1:2]
            return first_argument == ["0x0"]

        eventually(reads)

    def end(self) -> int:
        """Reads to the end, and gives the exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=DEADLINE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], DEADLINE)
        assert ready, self.shown
        try:
            read = os.read(self._descriptor, 65536)
        except OSError:  # the program has gone
            return False
        self.shown += read.decode(errors="replace")
        return bool(read)


Start = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture
def terminal(environ: dict[str, str], tmp_path: Path) -> Start:
    @contextmanager
    def started(*arguments: str) -> Iterator[Terminal]:
        outer, inner = pty.openpty()
        process = subprocess.Popen(
            # A session whose controlling terminal this is, so that Ctrl-C there is a signal.
            ["setsid", "--ctty", sys.executable, "-m", "nano_graphrag_redis", *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=environ | {"TERM": "xterm", "COLUMNS": "120"},
            cwd=tmp_path,
        )
        os.close(inner)
        try:
            yield Terminal(process, outer)
        finally:
            process.kill()
            process.wait()
            os.close(outer)

    return started


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """One kind of server is enough to see a terminal."""
    return server_binaries()["valkey"]


def test_drop_asks_and_takes_no_for_an_answer(
    terminal: Start, server: RedisServer, redis_client: redis.Redis
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as storage:
        storage.upsert({"a": 1, "b": 2})
    for answer, code, left in ((b"n\n", 2, 2), (b"y\n", 0, 0)):
        with terminal("drop", "full_docs", "--url", server.url) as shown:
            shown.wait_for(r"Delete 2 ids of full_docs at redis://127\.0\.0\.1:\d+/0\?")
            shown.press(answer)
            assert shown.end() == code, shown.shown
        assert redis_client.dbsize() == left


def test_ctrl_c_at_the_question_deletes_nothing(
    terminal: Start, server: RedisServer, redis_client: redis.Redis
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as storage:
        storage.upsert({"a": 1})
    with terminal("drop", "full_docs", "--url", server.url) as shown:
        shown.wait_for("Delete 1 id of")
        shown.wait_until_asked()
        shown.press(CTRL_C)
        assert shown.end() == 130, shown.shown[-300:]
    assert "Traceback" not in shown.shown
    assert redis_client.dbsize() == 1


def test_long_work_shows_how_far_it_is_how_fast_and_how_long_yet(
    terminal: Start, server: RedisServer, redis_client: redis.Redis
) -> None:
    redis_client.mset({f"nano_graphrag:full_docs:{i}": "1" for i in range(20_000)})
    with terminal("drop", "full_docs", "--yes", "--url", server.url) as shown:
        assert shown.end() == 0
    assert re.search(r"drop full_docs.*20,000 ids of 20,000 ids .*[\d,]+ ids/s", shown.shown)
    assert re.search(r"\d:\d\d:\d\d", shown.shown)
    assert "deleted 20,000 ids of full_docs" in shown.shown


def test_long_work_ends_at_ctrl_c_and_leaves_the_terminal_in_order(terminal: Start) -> None:
    with RedisServer() as server, Proxy(server.port) as slow:
        slow.latency = 0.05  # of the work, enough is left when the key is pressed
        server.client().mset({f"nano_graphrag:full_docs:{i}": "1" for i in range(60_000)})
        with terminal("drop", "full_docs", "--yes", "--url", slow.url) as shown:
            shown.wait_for(r"drop full_docs.*[\d,]+ ids of 60,000 ids")
            server.pause()  # so that it waits for an answer now
            shown.press(CTRL_C)
            code = shown.end()
            server.resume()
    assert code == 130, shown.shown[-300:]
    assert "interrupted" in shown.shown
    assert SHOW_CURSOR in shown.shown
    assert "Traceback" not in shown.shown


def test_stats_are_watched_until_ctrl_c(terminal: Start, server: RedisServer) -> None:
    with (
        SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as storage,
        terminal("stats", "--watch", "--every", "0.1", "--url", server.url) as shown,
    ):
        shown.wait_for(r"full_docs +0 ")
        storage.upsert({"a": 1})
        shown.wait_for(r"full_docs +1 ")
        shown.press(CTRL_C)
        assert shown.end() == 130
        eventually(lambda: shown.process.poll() is not None)
    assert "Traceback" not in shown.shown
