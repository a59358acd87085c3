"""Deferred drops and the real host: readers beside an insert, kills, failures, two writers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from support.cluster import RedisCluster
from support.conditions import eventually
from support.host import BOOK, ROOT, Llm, running_llm
from support.preloaded import Preloaded
from support.proxy import Proxy
from support.servers import RedisServer

from .rows import Row

SEED = 48
LETTERS = 3_000
"""Of the book, in each document."""
READERS = 9
KEYS = "nano_graphrag:community_reports:*"
LEASE = b"nano_graphrag:@swap:community_reports:lease"
TURN = b"nano_graphrag:@swap:community_reports:turn"

# A process of the host that does what it is sent, a line each, and says what came of it.
HOST = """
import asyncio, json, os, sys, traceback
from contextlib import redirect_stdout
import nano_graphrag_redis
nano_graphrag_redis.register()
from nano_graphrag import GraphRAG, QueryParam
from nano_graphrag._llm import gpt_4o_complete, gpt_4o_mini_complete

answers, url = sys.stdout, sys.argv[2]
delay = 0.0

def slowly(ask):
    async def answer(*arguments, **options):
        await asyncio.sleep(delay)
        return await ask(*arguments, **options)
    return answer

async def nothing(*arguments, **options):
    return None

async def failing(*arguments, **options):
    raise RuntimeError("the extraction fails")

def rag(**options):
    return GraphRAG(
        working_dir=sys.argv[1],
        best_model_func=slowly(gpt_4o_complete),
        cheap_model_func=slowly(gpt_4o_mini_complete),
        addon_params={"redis_url": url, "redis_deferred_drop": True},
        **options,
    )

async def insert(document, seconds, options):
    global delay
    delay = seconds
    say("begins")
    await rag(**options).ainsert(document)

async def read(readers):
    owner, stopped = rag(), asyncio.Event()
    counts = {"queries": 0, "without reports": 0, "errors": []}

    async def reader():
        while not stopped.is_set():
            param = QueryParam(mode="local", only_need_context=True)
            try:
                context = await owner.aquery("Who is Jacob Marley?", param)
            except Exception as error:
                counts["errors"].append(f"{type(error).__name__}: {error}")
                continue
            reports = context.split("-----Entities-----")[0]
            counts["queries"] += 1
            counts["without reports"] += '"# ' not in reports

    tasks = [asyncio.create_task(reader()) for _ in range(readers)]
    while not counts["queries"] and not counts["errors"]:
        await asyncio.sleep(0.05)
    say("begins")
    await asyncio.to_thread(sys.stdin.readline)
    stopped.set()
    await asyncio.gather(*tasks)
    return counts

def say(what):
    answers.write(json.dumps(what) + "\\n")  # in one piece: two processes write
    answers.flush()

def do(what, *arguments):
    if what == "read":
        return asyncio.run(read(*arguments))
    document, seconds, extraction = arguments
    options = {"none": nothing, "raise": failing, "": None}[extraction]
    options = {} if options is None else {"entity_extraction_func": options}
    if pid := os.fork():
        say(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 0
    try:
        asyncio.run(insert(document, seconds, options))
    except RuntimeError:
        code = 3
    except BaseException:
        traceback.print_exc()
        code = 4
    finally:
        os._exit(code)

with redirect_stdout(sys.stderr):
    say("ready")
    for line in sys.stdin:
        say(do(*json.loads(line)))
"""

# Replaces all reports whenever it is asked to, by a set of its own.
WRITER = """
import asyncio, json, sys
from nano_graphrag_redis import RedisKVStorage

name, settings = sys.argv[1], json.loads(sys.argv[2])
reports = RedisKVStorage("community_reports", settings)

async def swap(round, first):
    await reports.drop()
    value = {"report_string": f"{name} {round}", "filling": "x" * 2_000}
    await reports.upsert({str(number): value for number in range(first, first + 300)})
    await reports.index_done_callback()

print("ready", flush=True)
for line in sys.stdin:
    round, first = json.loads(line)
    asyncio.run(swap(round, first))
    print("done", flush=True)
reports.sync.close()
"""


# The same, each set by a process of its own.
WRITERS = """
import asyncio, json, os, sys
from nano_graphrag_redis import RedisKVStorage

settings = json.loads(sys.argv[1])

async def swap(name, first):
    reports = RedisKVStorage("community_reports", settings)
    await reports.drop()
    value = {"report_string": name, "filling": "x" * 2_000}
    await reports.upsert({str(number): value for number in range(first, first + 300)})
    await reports.index_done_callback()

print("ready", flush=True)
for line in sys.stdin:
    told, tell = os.pipe()
    if not (pid := os.fork()):
        os.read(told, 1)  # that its number is known
        asyncio.run(swap(*json.loads(line)))
        os._exit(0)
    print(pid, flush=True)
    os.write(tell, b".")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    os.close(told), os.close(tell)
"""


class Process:
    """A process that is sent lines, and answers each."""

    def __init__(self, script: str, *arguments: str, environ: dict[str, str], log: Path) -> None:
        self._said: IO[bytes] = log.open("ab")
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=environ,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def send(self, *what: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def answer(self) -> str:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said, (self._process.poll(), self.log.read_text())
        return said

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm() as running:
        yield running


class Host:
    """A process of the host, which inserts in children of its own."""

    def __init__(self, preloaded: Preloaded, llm: Llm, server: RedisServer, home: Path) -> None:
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
        environ = {**outside, **llm.environment, "STORAGE_KV_BACKEND": "redis"}
        environ["PYTHONHASHSEED"] = "0"
        self.log = home / f"log-{id(self)}"
        with self.log.open("ab") as said:
            self._process = preloaded.start(
                ["-c", HOST, str(home / "graph"), server.url], env=environ, stderr=said, cwd=ROOT
            )
        assert self.answer() == '"ready"'

    def send(self, *what: Any) -> None:
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def answer(self) -> str:
        said = self._process.stdout.readline().strip()
        assert said, self.log.read_text()
        return said

    def end(self) -> None:
        self._process.end()

    def insert(self, document: str, delay: float = 0.0, extraction: str = "") -> int:
        """Begins an insert, each of whose LLM calls takes so long; the process that does it."""
        self.send("insert", document, delay, extraction)
        said = {self.answer(), self.answer()}  # of the parent and the child, in any order
        assert '"begins"' in said, self.log.read_text()
        return int((said - {'"begins"'}).pop())


@contextmanager
def hosts(
    preloaded: Preloaded, llm: Llm, server: RedisServer, home: Path, number: int
) -> Iterator[list[Host]]:
    with ExitStack() as stack:
        started = []
        for _ in range(number):
            host = Host(preloaded, llm, server, home)
            stack.callback(host.end)
            started.append(host)
        yield started


def documents() -> Iterator[str]:
    """Parts of the book, each another."""
    text = BOOK.read_text(encoding="utf-8")
    first = start = text.index("Marley was dead, to begin with.")
    while True:
        yield text[start : start + LETTERS]
        start += LETTERS
        if start + LETTERS > len(text):  # it has fewer parts than a full run takes
            first = start = first + 100


def contents(server: RedisServer) -> dict[bytes, bytes]:
    with server.client() as client:
        keys = list(client.scan_iter(KEYS))
        return dict(zip(keys, client.mget(keys), strict=True)) if keys else {}


@pytest.mark.row(48)
@pytest.mark.timeout(1800)
def test_readers_beside_an_insert_always_have_reports(
    row: Row, host: Preloaded, llm: Llm, own_server: RedisServer, tmp_path: Path
) -> None:
    parts = documents()
    with hosts(host, llm, own_server, tmp_path, 2) as (writer, readers):
        writer.insert(next(parts))
        assert writer.answer() == "0", writer.log.read_text()
        before = contents(own_server)
        readers.send("read", READERS)
        assert readers.answer() == '"begins"'
        began = time.monotonic()
        writer.insert(next(parts), row.pick(quick=0.3, full=20.0))
        assert writer.answer() == "0", writer.log.read_text()
        row.saw("seconds of the insert", round(time.monotonic() - began))
        readers.send()
        seen = json.loads(readers.answer())
    assert contents(own_server) != before
    row.none("queries that failed", len(seen["errors"]), of=seen["queries"])
    row.none("queries without a report", seen["without reports"], of=seen["queries"])


@pytest.mark.row(48)
@pytest.mark.timeout(1800)
def test_killed_and_failed_inserts_leave_the_old_reports(
    row: Row, host: Preloaded, llm: Llm, own_server: RedisServer, tmp_path: Path
) -> None:
    kills, failures = row.pick(quick=(1, 2), full=(50, 20))
    chance, parts = random.Random(SEED), documents()
    lost, written = [], []
    with hosts(host, llm, own_server, tmp_path, 1) as (one,):
        one.insert(next(parts))
        assert one.answer() == "0", one.log.read_text()
        before = contents(own_server)
        assert before
        for number in range(kills):
            # Its first LLM calls take longer than it lives.
            pid = one.insert(next(parts), delay=60.0)
            time.sleep(chance.uniform(0, 1.5))  # at any instant
            os.kill(pid, signal.SIGKILL)
            assert one.answer() == str(-signal.SIGKILL)
            lost += [number] * (contents(own_server) != before)
        for number in range(failures):
            one.insert(next(parts), extraction=("none", "raise")[number % 2])
            written.append(one.answer())
            lost += [kills + number] * (contents(own_server) != before)
        assert written == [("0", "3")[number % 2] for number in range(failures)]
        # And one that succeeds replaces them.
        one.insert(next(parts))
        assert one.answer() == "0"
        assert contents(own_server) != before
    assert not lost, f"seed {SEED}: {lost}"
    row.none("old sets that were not whole", len(lost), of=kills + failures)
    said = one.log.read_text()
    assert said.count("nothing was written after drop()") == failures


@pytest.mark.row(48)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["one server", "a cluster"])
def test_two_writers_take_turns(row: Row, kind: str, server_binary: Path, tmp_path: Path) -> None:
    rounds = row.pick(quick=8 if kind == "one server" else 2, full=200)
    mixed = []
    with ExitStack() as stack:
        server: RedisServer | RedisCluster
        settings: dict[str, Any] = {"redis_deferred_drop": True}
        if kind == "one server":
            server = stack.enter_context(RedisServer(server_binary))
        else:
            server = stack.enter_context(RedisCluster(server_binary, replicas=False))
            settings["redis_cluster"] = True
        settings["redis_url"] = server.url
        writers = []
        for name in ("one", "two"):
            writer = Process(
                WRITER,
                name,
                json.dumps(settings),
                environ={k: v for k, v in os.environ.items() if not k.startswith("REDIS_")},
                log=tmp_path / name,
            )
            stack.callback(writer.end)
            writers.append(writer)
            assert writer.answer() == "ready"
        client = stack.enter_context(server.client())
        for number in range(rounds):
            for at, writer in enumerate(writers):
                writer.send(number, at * 100)
            for writer in writers:
                assert writer.answer() == "done"
            keys = [bytes(key) for key in client.scan_iter(KEYS)]
            values = {json.loads(client.get(key))["report_string"] for key in keys}
            whole = len(keys) == 300 and values in ({f"one {number}"}, {f"two {number}"})
            mixed += [number] * (not whole)
        # Whose turn it was last, for a while.
        assert [bytes(key) for key in client.scan_iter("nano_graphrag:@swap*")] == [
            TURN for _ in range(kind == "one server")
        ]
    row.none(f"mixed sets after two writers on {kind}", len(mixed), of=rounds)


def set_of(server: RedisServer) -> tuple[int, set[str]]:
    """How many reports there are, and whose."""
    values = contents(server).values()
    return len(values), {json.loads(value)["report_string"] for value in values}


@pytest.mark.row(48)
@pytest.mark.timeout(1800)
def test_killed_while_it_replaces_a_set_is_whole(
    row: Row, own_server: RedisServer, tmp_path: Path
) -> None:
    kills = row.pick(quick=8, full=50)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("REDIS_")}
    mixed, ends, replaced, at = [], [], 0, 0
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(own_server.port))
        client = stack.enter_context(own_server.client())
        settings = json.dumps({"redis_url": proxy.url, "redis_deferred_drop": True})
        writers = Process(WRITERS, settings, environ=environ, log=tmp_path / "log")
        stack.callback(writers.end)
        assert writers.answer() == "ready"
        # Those that live: the second one sends what those do that are killed.
        for name, first in (("-2", 100), ("-1", 0)):
            proxy.records = []
            writers.send(name, first)
            assert int(writers.answer()) > 0
            assert writers.answer() == "0", writers.log.read_text()
        sent = sum(len(record.sent) for record in proxy.records or [])
        proxy.records = None
        before = set_of(own_server)
        assert before == (300, {"-1"})
        # Of all that is sent up to the end, where the lease is given back: every so many bytes, and
        # ever closer to EXEC and to what comes after it.
        even = kills // 2
        instants = [1 + sent * number // even for number in range(even)]
        close = [number / (kills - even - 1) for number in range(kills - even)]
        instants += [sent - round(50 * (sent / 50) ** far) for far in close]
        for number, instant in enumerate(instants):
            pid: Future[int] = Future()
            proxy.ends_after = (
                max(1, instant),
                lambda pid=pid: os.kill(pid.result(), signal.SIGKILL),
            )
            name = f"{number:02}"
            writers.send(name, 100 - at)
            pid.set_result(int(writers.answer()))
            ends.append(writers.answer())
            eventually(lambda: len(client.client_list()) == 1)
            new, found = (300, {name}), set_of(own_server)
            if found == new:
                replaced, at = replaced + 1, 100 - at
            mixed += [number] * (found not in (before, new))
            before = found
            client.delete(LEASE)  # as if its time had passed
        log = writers.log.read_text()
    row.saw("sets that were new then", f"{replaced} of {kills}")
    row.none("sets that were not whole after a kill in the replacement", len(mixed), of=kills)
    assert ends == [str(-signal.SIGKILL)] * kills, log
    assert 0 < replaced < kills
