"""What each alert of deploy/ is about, made for real: servers, and processes that use them.

A cause is a function that sets up a healthy scene and says how to harm it. Its processes count as
workers of the service; Prometheus scrapes each of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

from support.conditions import eventually
from support.guard import Guard
from support.scripts import LIGHT_HOST, python_path
from support.servers import RedisServer

SAMPLED = 0.5
"""Seconds between two samples of a worker's servers, which are a minute in a deployment."""

_PREAMBLE = f"""
import asyncio, sys, threading, time
import redis
from prometheus_client import start_http_server
from nano_graphrag_redis import RedisKVStorage, StorageError, SyncRedisKVStorage, limit_llm
from nano_graphrag_redis.metrics import register

register().sample_every = {SAMPLED}
URL = sys.argv[1]
harmed = threading.Event()

def listen():
    for _ in sys.stdin:
        harmed.set()

def opened(namespace, **settings):
    return SyncRedisKVStorage(namespace, {{"redis_url": URL, **settings}})

def tried(call, *arguments):
    try:
        return call(*arguments)
    except StorageError:
        return None

def for_ever(call, *arguments, pause=0.05):
    while True:
        tried(call, *arguments)
        time.sleep(pause)

def stalls(seconds):
    \"\"\"Commands of another program, each of which keeps the server busy for so long.\"\"\"
    other = redis.Redis.from_url(URL)
    def stall():
        harmed.wait()
        while True:
            other.execute_command("DEBUG", "SLEEP", seconds)
    threading.Thread(target=stall, daemon=True).start()

threading.Thread(target=listen, daemon=True).start()
http, _ = start_http_server(0, addr="127.0.0.1")
print(http.server_port, flush=True)
"""


class Worker(Guard):
    """A process that uses storages and tells its metrics.

    Args:
        script: What it does, after imports; ``harmed`` is an event in it.
        url: The server it is given as ``URL``.
        environ: More of its environment.
    """

    def __init__(self, script: str, url: str, **environ: str) -> None:
        ours = ("REDIS_", "STORAGE_", "PYTHONHASHSEED")
        outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PREAMBLE + textwrap.dedent(script), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **outside,
                "PYTHONPATH": python_path(LIGHT_HOST),
                "PYTHONHASHSEED": "0",
                **environ,
            },
        )

    @cached_property
    def instance(self) -> str:
        """Where Prometheus finds it, as ``HOST:PORT``."""
        return f"127.0.0.1:{int(_pipe(self._process.stdout).readline())}"

    def harm(self) -> None:
        """Sets ``harmed`` in it."""
        pipe = _pipe(self._process.stdin)
        pipe.write("now\n")
        pipe.flush()

    def kill(self) -> None:
        """Ends it with SIGKILL, as the kernel does when memory is short."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kills it, if it runs, and closes its pipes."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@dataclass
class Stage:
    """Makes what a scene consists of, all of which ends with it."""

    stack: ExitStack
    workers: list[Worker] = field(default_factory=list)

    def server(self, *lines: str, **options: Any) -> RedisServer:
        """A running server; its arguments are those of ``RedisServer``."""
        return self.stack.enter_context(RedisServer(config=lines, **options))

    def worker(self, script: str, server: RedisServer, **environ: str) -> Worker:
        """A running worker."""
        worker = self.stack.enter_context(Worker(script, server.url, **environ))
        self.workers.append(worker)
        return worker


@dataclass(frozen=True)
class Scene:
    """A healthy service, and how it is harmed.

    Attributes:
        harm: Brings the cause about.
        labels: What the alert then says of it.
    """

    harm: Callable[[], object]
    labels: Callable[[], dict[str, str]] = dict


Cause = Callable[[Stage], Scene]

CAUSES: dict[str, list[Cause]] = {}
"""By the name of the alert."""


def cause_of(*alerts: str) -> Callable[[Cause], Cause]:
    """Makes a function a cause of these alerts."""

    def known(cause: Cause) -> Cause:
        for alert in alerts:
            CAUSES.setdefault(alert, []).append(cause)
        return cause

    return known


def _of(server: RedisServer) -> Callable[[], dict[str, str]]:
    return lambda: {"server": f"{server.url}/0"}


USED_ONCE = """
docs = opened("full_docs")
docs.upsert({"a": 1})
threading.Event().wait()
"""


@cause_of("WorkerDown")
def a_worker_is_killed(stage: Stage) -> Scene:
    worker = stage.worker(USED_ONCE, stage.server())
    return Scene(worker.kill, lambda: {"instance": worker.instance, "job": "nano-graphrag"})


@cause_of("RedisUnreachable")
def a_server_is_killed_while_nobody_calls(stage: Stage) -> Scene:
    server = stage.server()
    stage.worker(USED_ONCE, server)
    return Scene(server.kill, _of(server))


@cause_of("RedisUnreachable")
def a_server_hangs(stage: Stage) -> Scene:
    server = stage.server()
    stage.worker(USED_ONCE, server)
    return Scene(server.pause, _of(server))


@cause_of("RedisUnreachable")
def a_worker_begins_while_its_server_is_away(stage: Stage) -> Scene:
    server = stage.server()
    server.kill()
    worker = stage.worker(
        """
        docs = opened("full_docs", redis_max_retries=0)
        harmed.wait()
        tried(docs.get_by_id, "a")  # one call, which opens no circuit breaker
        threading.Event().wait()
        """,
        server,
    )
    return Scene(worker.harm, _of(server))


@cause_of("CallsFail")
def calls_find_no_server(stage: Stage) -> Scene:
    server = stage.server()
    stage.worker(
        """
        docs = opened("calls_fail")
        docs.upsert({"a": 1})
        for_ever(docs.get_by_id, "a")
        """,
        server,
    )
    return Scene(server.kill, lambda: {"namespace": "calls_fail"})


@cause_of("ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly")
def a_server_is_killed_under_calls(stage: Stage) -> Scene:
    return Scene(calls_find_no_server(stage).harm)


@cause_of("CallsFail")
def a_permission_is_taken_away(stage: Stage) -> Scene:
    server = stage.server("user alice on >secret ~* &* +@all")
    stage.worker(
        """
        docs = opened("calls_refused", redis_username="alice", redis_password="secret")
        docs.upsert({"a": 1})
        for_ever(docs.get_by_id, "a")
        """,
        server,
    )
    return Scene(
        lambda: server.client().execute_command("ACL", "SETUSER", "alice", "-get"),
        lambda: {"namespace": "calls_refused"},
    )


@cause_of("AnswersPaidAgain")
def stored_answers_cannot_be_read(stage: Stage) -> Scene:
    server = stage.server()
    stage.worker(
        """
        answers = opened("llm_response_cache", redis_outage_policy="miss")
        answers.upsert({"a": {"return": "dead", "model": "m"}})
        for_ever(answers.get_by_id, "a")
        """,
        server,
    )
    return Scene(server.kill, lambda: {"namespace": "llm_response_cache"})


@cause_of("HitRateFalls")
def prompts_are_worded_anew(stage: Stage) -> Scene:
    worker = stage.worker(
        """
        answers = opened("llm_response_cache")
        answers.upsert({"a": {"return": "dead", "model": "m"}})
        for_ever(lambda: answers.get_by_id("b" if harmed.is_set() else "a"), pause=0.002)
        """,
        stage.server(),
    )
    return Scene(worker.harm)


@cause_of("KeysEvicted")
def more_is_written_than_fits(stage: Stage) -> Scene:
    server = stage.server(maxmemory="8mb", maxmemory_policy="allkeys-lru")
    worker = stage.worker(
        """
        docs = opened("full_docs")
        docs.upsert({"a": 1})
        harmed.wait()
        docs.upsert({f"doc-{i}": "x" * 10_000 for i in range(1_000)})
        threading.Event().wait()
        """,
        server,
    )
    return Scene(worker.harm, _of(server))


@cause_of("MemoryNearlyFull")
def a_server_is_filled(stage: Stage) -> Scene:
    server = stage.server(maxmemory="8mb", maxmemory_policy="noeviction")
    worker = stage.worker(
        """
        docs = opened("full_docs")
        docs.upsert({"a": 1})
        harmed.wait()
        for i in range(1_000):
            tried(docs.upsert, {f"doc-{i}": "x" * 10_000})
        threading.Event().wait()
        """,
        server,
    )
    return Scene(worker.harm, _of(server))


@cause_of("PersistenceFails")
def a_snapshot_cannot_be_written(stage: Stage) -> Scene:
    server = stage.server(appendonly="no")
    stage.worker(USED_ONCE, server)

    def harm() -> None:
        # What is in the way of the new file cannot be replaced by it.
        (server.directory / "dump.rdb").mkdir()
        server.client().bgsave()

    return Scene(harm, _of(server))


@cause_of("WritesNotProved")
def the_replica_is_gone_for_one_barrier(stage: Stage) -> Scene:
    primary = stage.server()
    replica = stage.server(replicaof=f"127.0.0.1 {primary.port}")
    eventually(lambda: replica.client().info("replication")["master_link_status"] == "up")
    worker = stage.worker(
        """
        docs = opened("unproved", redis_durability="replicas:1")
        def insert():
            docs.upsert({"a": 1})
            docs.index_done_callback()
        insert()
        harmed.wait()
        tried(insert)
        threading.Event().wait()
        """,
        primary,
    )

    def harm() -> None:
        replica.kill()
        worker.harm()

    return Scene(harm, lambda: {"namespace": "unproved"})


@cause_of("CallsAreSlow")
def another_program_keeps_the_server_busy(stage: Stage) -> Scene:
    server = stage.server(enable_debug_command="local")
    worker = stage.worker(
        """
        docs = opened("slow")
        stalls(0.4)
        for_ever(docs.get_by_id, "a")
        """,
        server,
    )
    return Scene(worker.harm, lambda: {"namespace": "slow", "operation": "get_by_id"})


@cause_of("ConnectionsExhausted")
def more_threads_call_than_there_are_connections(stage: Stage) -> Scene:
    server = stage.server()
    worker = stage.worker(
        """
        patient = {"redis_operation_timeout": 600, "redis_socket_timeout": 600}
        docs = opened("full_docs", redis_max_connections=4, **patient)
        docs.upsert({"a": 1})
        harmed.wait()
        # The server is up and answers no write: nothing frees a connection between two scrapes.
        redis.Redis.from_url(URL).execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
        for _ in range(8):
            threading.Thread(target=tried, args=(docs.upsert, {"a": 2}), daemon=True).start()
        tried(docs.upsert, {"a": 2})  # this thread has a connection of its own, too
        threading.Event().wait()
        """,
        server,
    )
    return Scene(worker.harm, lambda: {"instance": worker.instance, **_of(server)()})


_UNPRIVILEGED = """
docs = opened("full_docs", redis_username="alice", redis_password="secret")
"""


@cause_of("SamplesStopped")
def a_user_may_scan_no_more(stage: Stage) -> Scene:
    server = stage.server("user alice on >secret ~* &* +@all")
    stage.worker(_UNPRIVILEGED + "for_ever(docs.get_by_id, 'a')", server)
    return Scene(
        lambda: server.client().execute_command("ACL", "SETUSER", "alice", "-scan"), _of(server)
    )


@cause_of("SamplesStopped")
def a_user_has_never_had_the_permission_to_scan(stage: Stage) -> Scene:
    server = stage.server("user alice on >secret ~* &* +@all -scan")
    worker = stage.worker(_UNPRIVILEGED + "harmed.wait(); for_ever(docs.get_by_id, 'a')", server)
    return Scene(worker.harm, _of(server))


@cause_of("WorkersOnJsonFiles")
def a_worker_uses_json_files(stage: Stage) -> Scene:
    worker = stage.worker(
        """
        import os, tempfile
        import nano_graphrag_redis
        nano_graphrag_redis.register()
        from nano_graphrag._storage.factory import StorageFactory
        harmed.wait()
        with tempfile.TemporaryDirectory() as home:
            StorageFactory.create_kv_storage("json", "full_docs", {"working_dir": home})
        threading.Event().wait()
        """,
        stage.server(),
    )
    return Scene(worker.harm)


@cause_of("HashSeedsDiffer")
def a_worker_has_another_hash_seed(stage: Stage) -> Scene:
    worker = stage.worker("harmed.wait()" + USED_ONCE, stage.server(), PYTHONHASHSEED="1")
    return Scene(worker.harm)


@cause_of("SingleFlightTimesOut")
def the_provider_hangs(stage: Stage) -> Scene:
    worker = stage.worker(
        """
        async def serve():
            settings = {"redis_single_flight": "on", "redis_single_flight_wait": 0.3}
            answers = RedisKVStorage("llm_response_cache", {"redis_url": URL, **settings})
            async def asked(id):
                if await answers.get_by_id(id) is None:
                    if harmed.is_set():
                        await asyncio.sleep(600)
                    await answers.upsert({id: {"return": "dead", "model": "m"}})
            tasks = []
            for number in range(100_000):
                holder = asyncio.create_task(asked(f"{number}"))
                tasks += [holder, asyncio.create_task(asked(f"{number}"))]
                await asyncio.sleep(0.2)
        asyncio.run(serve())
        """,
        stage.server(),
    )
    return Scene(worker.harm)


@cause_of("LimitNotShared")
def the_server_of_the_limit_is_killed(stage: Stage) -> Scene:
    server = stage.server()
    stage.worker(
        """
        async def model(prompt, **_):
            return "dead"
        limited = limit_llm(model, {"redis_url": URL}, model="m", requests_per_minute=6000)
        async def serve():
            while True:
                await limited("Who is dead?")
                await asyncio.sleep(0.05)
        asyncio.run(serve())
        """,
        server,
    )
    return Scene(server.kill)
