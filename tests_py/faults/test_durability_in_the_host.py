"""Every level of durability under the real host: its inserts, and what happens between and in them.

The host drops the community reports in each insert, and calls every storage back at its end.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from demo.cast import relations
from durability.conftest import replicate
from support.conditions import eventually
from support.host import BOOK, ROOT, Llm, running_llm
from support.power import Disk
from support.preloaded import Preloaded
from support.servers import RedisServer

from .rows import Row

LETTERS = 1_500
"""Of the book, in each document."""
SEED = 53

# Inserts what it is sent, a line each, and says what came of it.
SCRIPT = """
import json, sys
from contextlib import redirect_stdout
from nano_graphrag import GraphRAG
from nano_graphrag_redis import RedisKVStorage

answers = sys.stdout
with redirect_stdout(sys.stderr):
    rag = GraphRAG(
        working_dir=sys.argv[1],
        key_string_value_json_storage_cls=RedisKVStorage,
        addon_params=json.loads(sys.argv[2]),
    )
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        outcome = "ok"
        try:
            rag.insert(json.loads(line))
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        print(outcome, file=answers, flush=True)
"""


class Host:
    """A process of the host, which inserts what it is told to."""

    def __init__(
        self, preloaded: Preloaded, llm: Llm, directory: Path, settings: dict[str, Any]
    ) -> None:
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith("REDIS_")
        }
        log = directory.parent / f"{directory.name}.log"
        with log.open("a") as said:
            self._process = preloaded.start(
                ["-c", SCRIPT, str(directory), json.dumps(settings)],
                env={**outside, **llm.environment},
                stderr=said,
                cwd=ROOT,
            )
        assert self._answer() == "ready", log.read_text()

    def insert(self, document: str) -> str:
        """What came of it: `ok`, or the error."""
        print(json.dumps(document), file=self._process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        """Ends it as a crash does."""
        self._process.end()

    def _answer(self) -> str:
        return self._process.stdout.readline().strip()


class Servers:
    """What a level needs, and the crash that it promises to outlast."""

    def __init__(self, stack: ExitStack, level: str, directory: Path, binary: Path) -> None:
        self.level = level
        self._disk = Disk(directory, binary) if level == "fsync" else None
        if self._disk is not None:
            self.primary = stack.enter_context(self._disk.server(appendfsync="always"))
        else:
            kept = {} if level == "snapshot" else {"appendonly": "yes", "appendfsync": "always"}
            options: dict[str, Any] = {"appendonly": "no", **kept}
            self.primary = stack.enter_context(RedisServer(binary, **options))
        self._replica = None
        if "replicas" in level:
            self._replica = stack.enter_context(RedisServer(binary, **options))
            replicate(self.primary, self._replica)

    def contents(self, server: RedisServer | None = None) -> dict[bytes, bytes]:
        """All values but the barrier's marker."""
        client = (server or self.primary).client()
        keys = [key for key in client.scan_iter("nano_graphrag:*") if b":@" not in key]
        values: Any = client.mget(keys) if keys else []
        return dict(zip(keys, values, strict=True))

    def restart(self) -> None:
        """Kills the primary and starts it again."""
        self.primary.restart()
        if self._replica is not None:
            client = self._replica.client()
            eventually(lambda: client.info("replication")["master_link_status"] == "up")

    def differ(self) -> int:
        """How many values are not where they have to be after a barrier has passed."""
        before = self.contents()
        if self._replica is not None:
            after = self.contents(self._replica)
        elif self._disk is not None:
            self._disk.cut(self.primary)
            self.primary.start()
            after = self.contents()
        else:
            self.restart()
            after = self.contents()
        return sum(before.get(key) != after.get(key) for key in {*before, *after})

    def insert(self, host: Host, document: str, fault: str, delay: float) -> str:
        """What the host says of an insert; the fault comes before it or `delay` seconds into it."""
        if fault == "break":
            self.break_connections()
        elif fault == "restart":
            self.restart()
        elif fault == "break in it":
            with soon(self.break_connections, delay):
                return host.insert(document)
        elif fault == "restart in it":
            with soon(self.restart, delay):
                return host.insert(document)
        return host.insert(document)

    def break_connections(self) -> None:
        """Breaks every connection of a client; the server runs on."""
        self.primary.client().client_kill_filter(_type="normal", skipme=True)


@contextmanager
def soon(act: Any, delay: float) -> Iterator[None]:
    """Does something while the block runs."""

    def wait_and_act() -> None:
        time.sleep(delay)  # at any instant of it
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join()


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm() as running:
        yield running


@pytest.mark.row(53)
@pytest.mark.timeout(3600)
def test_the_host_is_told_the_truth_at_every_level(
    row: Row, host: Preloaded, llm: Llm, tmp_path: Path, server_binary: Path
) -> None:
    levels = row.pick(
        quick=("fsync", "replicas:1"),
        full=("fsync", "snapshot", "replicas:1", "fsync+replicas:1"),
    )
    for level in levels:
        directory = tmp_path / level
        directory.mkdir()
        inserts_tell_the_truth(row, partial(Host, host, llm), directory, server_binary, level)


def inserts_tell_the_truth(
    row: Row, start_host: Callable[..., Host], directory: Path, server_binary: Path, level: str
) -> None:
    """Inserts at a level, and looks at what each was said to have come to."""
    inserts, of_a_process = row.pick(quick=(2, 2), full=(50, 7))
    chance = random.Random(f"{SEED} {level}")
    text = BOOK.read_text(encoding="utf-8")
    pieces = [text[start : start + LETTERS] for start in range(0, len(text), LETTERS)]
    # The host raises EmptyNetworkError of a first document in which it finds no relation.
    documents = [piece for piece in pieces if relations(piece)]
    false_errors, false_oks, true_errors = [], 0, 0
    with ExitStack() as stack:
        servers = Servers(stack, level, directory, server_binary)
        settings = {
            "redis_url": servers.primary.url,
            "redis_durability": level,
            "redis_durability_timeout": 30,
            "redis_operation_timeout": 30,
            "redis_max_retries": 100,
        }
        faults = ["break in it", "restart", "none", "break", "restart in it", "again"]
        host = None
        for number in range(inserts):
            if number % of_a_process == 0:
                if host is not None:
                    host.end()
                clear = {"clear_on_start": number > 0 and chance.random() < 0.5}
                host = start_host(directory / f"host-{number}", {**settings, **clear})
                stack.callback(host.end)
            assert host is not None
            fault = faults[number] if number < len(faults) else chance.choice(faults)
            document = documents[number if fault != "again" else max(0, number - 1)]
            outcome = servers.insert(host, document, fault, chance.uniform(0, 0.5))
            lossy = fault == "restart in it" and level == "snapshot"
            if outcome != "ok":
                true_errors += lossy
                if not lossy:
                    false_errors.append(f"{number} ({fault}): {outcome}")
            elif servers.differ():
                false_oks += 1
    row.saw(f"errors at {level} after a restart that lost writes", true_errors)
    assert not false_errors, f"seed {SEED}: {false_errors}"
    row.none(f"false errors at {level}", len(false_errors), of=inserts)
    row.none(f"false OKs at {level}", false_oks, of=inserts)
