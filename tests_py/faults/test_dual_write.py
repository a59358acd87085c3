"""Dual writing: the files hold what the server holds, whoever drops, writes or stands still."""

from __future__ import annotations

import fcntl
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from nano_graphrag_redis import SyncRedisKVStorage, migration
from support.conditions import eventually
from support.proxy import Proxy
from support.scripts import start_script
from support.servers import RedisServer

from .rows import Row

PREFIX = "nano_graphrag:full_docs:"

# Does what it reads, a line at a time, and says when it is done.
PROCESS = """
import json
settings = {"redis_url": URL, "working_dir": sys.argv[2], **json.loads(sys.argv[3])}

def storage():
    return SyncRedisKVStorage("full_docs", settings | {"redis_dual_write": True})

def drop(name):
    with storage() as docs:
        docs.drop()

def write(name):
    for close in range(4):
        with storage() as docs:  # brings the file up to date when it is closed
            for n in range(5):
                docs.upsert({f"{name}-{close}-{n}-{m}": m for m in range(10)})
                docs.upsert({f"shared-{n}": name})

def rewrite(name):
    with storage() as docs:
        docs.upsert({str(n): name for n in range(0, 1000)})

for line in sys.stdin:
    act, name = line.split()
    globals()[act](name)
    print("done", flush=True)
"""


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock on a file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Process:
    """A process that does what it is asked to, beside the others."""

    def __init__(self, *arguments: object) -> None:
        self._process = start_script(PROCESS, *arguments)

    def begin(self, act: str, name: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{act} {name}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n", self._process.communicate()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop_outside_of(self, directory: Path) -> None:
        """Stops it where it holds no lock on a file, which others would wait for."""

        def stopped() -> bool:
            self.send(signal.SIGSTOP)
            eventually(lambda: psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)
            if any(map(is_locked, directory.glob("kv_store_full_docs.*"))):
                self.send(signal.SIGCONT)
                return False
            return True

        eventually(stopped)

    def close(self) -> None:
        self.send(signal.SIGCONT)
        out, err = self._process.communicate()
        assert (self._process.returncode, out, err) == (0, "", "")


@contextmanager
def processes(
    count: int, url: str, directory: Path, settings: dict[str, Any]
) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        started = [Process(url, directory, json.dumps(settings)) for _ in range(count)]
        for process in started:
            stack.callback(process.close)
        yield started


def fill(server: RedisServer, directory: Path, settings: dict[str, Any], count: int) -> None:
    """The server and the file hold the same ids, and there is no log."""
    values = {str(n): n for n in range(count)}
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url, **settings}) as docs:
        docs.upsert(values)
    (directory / "kv_store_full_docs.json").write_text(json.dumps(values))


def differences(server: RedisServer, client: Redis, directory: Path) -> tuple[int, int]:
    """After a fold: how many ids are only in one of both, or have another value; of how many."""
    migration.fold(directory, {"redis_url": server.url})
    in_file = json.loads((directory / "kv_store_full_docs.json").read_text())
    keys = list(client.scan_iter(f"{PREFIX}*", count=1000))
    values: Any = client.mget(keys) if keys else []
    on_server = {
        key.decode().removeprefix(PREFIX): json.loads(value)
        for key, value in zip(keys, values, strict=True)
    }
    differing = [id for id in in_file | on_server if in_file.get(id) != on_server.get(id)]
    return len(differing), len(in_file | on_server)


@pytest.mark.row(39)
@pytest.mark.parametrize("registry", [False, True])
def test_after_a_drop_beside_writers_that_close_the_file_is_what_the_server_holds(
    row: Row,
    own_server: RedisServer,
    tmp_path: Path,
    *,
    registry: bool,
) -> None:
    settings = {"redis_registry": registry}
    rounds = row.pick(quick=4, full=100)
    count = row.pick(quick=5_000, full=20_000)
    wrong = ids = 0
    with own_server.client() as client, processes(3, own_server.url, tmp_path, settings) as three:
        for n in range(rounds):
            fill(own_server, tmp_path, settings, count)
            for process, act in zip(three, ("drop", "write", "write"), strict=True):
                process.begin(act, f"{n}{act}{id(process)}")
            for process in three:
                process.end()
            found, of = differences(own_server, client, tmp_path)
            wrong, ids = wrong + found, ids + of
            client.flushall()
    row.saw(f"rounds, registry {'on' if registry else 'off'}", rounds)
    row.none("differences", wrong, of=ids)


@pytest.mark.row(39)
@pytest.mark.parametrize("registry", [False, True])
def test_a_drop_that_stood_still_takes_nothing_out_of_the_file_that_was_written_meanwhile(
    row: Row,
    own_server: RedisServer,
    tmp_path: Path,
    *,
    registry: bool,
) -> None:
    settings = {"redis_registry": registry}
    rounds = row.pick(quick=2, full=20)
    count = row.pick(quick=20_000, full=200_000)
    wrong = ids = 0
    with (
        own_server.client() as client,
        Proxy(own_server.port) as slow,
        processes(1, slow.url, tmp_path, settings) as (dropping,),
        processes(1, own_server.url, tmp_path, settings) as (writing,),
    ):
        slow.latency = 0.01  # a drop lasts long enough to be stopped in the middle
        for n in range(rounds):
            fill(own_server, tmp_path, settings, count)
            few = client.dbsize() - 2000
            dropping.begin("drop", n)
            eventually(lambda few=few: client.dbsize() < few)
            dropping.stop_outside_of(tmp_path)
            assert client.dbsize() > 1000, "it had ended"
            for act in ("write", "rewrite"):
                writing.begin(act, n)
                writing.end()
            dropping.send(signal.SIGCONT)
            dropping.end()
            found, of = differences(own_server, client, tmp_path)
            wrong, ids = wrong + found, ids + of
            client.flushall()
    row.saw(f"rounds with a process standing still, registry {'on' if registry else 'off'}", rounds)
    row.none("differences", wrong, of=ids)
