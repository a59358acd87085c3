"""The stream of changes under outages, forks and exits: it fails no write and holds no process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import redis

from support.conditions import eventually
from support.proxy import Proxy
from support.scripts import run_script, start_script
from support.servers import RedisServer

KEY = "nano_graphrag:@changes:full_docs"
EXIT = 1.0
"""Seconds that a process waits at its end for entries that are under way."""
ROOM = 10.0
"""Seconds for a start, an end and a busy machine."""

STORE = """
store = SyncRedisKVStorage("full_docs", {"redis_url": URL, "redis_changes": True})
"""


def entries(client: redis.Redis) -> list[tuple[str, list[str]]]:
    """Who wrote which ids."""
    found: Any = client.xrange(KEY)
    return [(fields[b"who"].decode(), json.loads(fields[b"ids"])) for _, fields in found]


def test_a_process_that_ends_at_once_sends_its_last_entries(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    script = STORE + "for n in range(200): store.upsert({str(n): n})"
    run_script(script, server.url).cleanly()
    told = entries(redis_client)
    assert [ids for _, ids in told] == [[str(n)] for n in range(200)]


def test_an_ending_process_waits_for_entries_that_take_a_while(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    with Proxy(server.port) as slow:
        slow.latency = 0.2  # longer than an interpreter takes to end, shorter than it waits
        run_script(STORE + 'store.upsert({"a": 1})', slow.url).cleanly()
        assert [ids for _, ids in entries(redis_client)] == [["a"]]


def test_a_server_that_hangs_holds_an_ending_process_for_a_second_at_most(
    server: RedisServer,
) -> None:
    script = (
        STORE
        + """
store.upsert({"one": 1})
os.kill(int(sys.argv[2]), signal.SIGSTOP)
began = time.monotonic()
import atexit
atexit._run_exitfuncs()
print(time.monotonic() - began)
"""
    )
    try:
        ended = run_script(script, server.url, server.pid)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    # The entry may have left before the server stopped.
    assert float(ended.cleanly()) < EXIT + ROOM / 2
    assert ended.seconds < EXIT + ROOM


def test_a_child_has_entries_of_its_own_and_none_of_its_parents(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    script = (
        STORE
        + """
store.upsert({"parent": 1})  # its entry waits still
child = os.fork()
if not child:
    store.upsert({"child": 1})
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
print(os.getpid(), child)
"""
    )
    parent, child = run_script(script, server.url).cleanly().split()
    told = {(who.rpartition(":")[2], *ids) for who, ids in entries(redis_client)}
    assert told == {(parent, "parent"), (child, "child")}
    assert len(entries(redis_client)) == 2


def test_writes_beside_a_refused_stream_are_whole(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    """A user who may write values alone: NOPERM for each entry."""
    redis_client.execute_command(
        *("ACL", "SETUSER", "writer", "reset", "on", ">secret", "~nano_graphrag:*"),
        *("+@all", "-xadd"),
    )
    script = """
from nano_graphrag_redis._core import metrics
store = SyncRedisKVStorage("full_docs", {
    "redis_url": URL, "redis_username": "writer", "redis_password": "secret",
    "redis_changes": True,
})
for n in range(100): store.upsert({str(n): n})
def lost():
    return metrics()["namespaces"]["full_docs"]["counts"]["changes_lost"]
while lost() < 100:
    time.sleep(0.01)
print(len(store.all_keys()), lost())
"""
    try:
        assert run_script(script, server.url).out.split() == ["100", "100"]
    finally:
        redis_client.execute_command("ACL", "DELUSER", "writer")
    assert redis_client.exists(KEY) == 0


def test_after_an_outage_changes_are_recorded_again_and_none_twice(server_binary: Path) -> None:
    with RedisServer(server_binary) as server:
        around_a_restart(server, server.client())


def around_a_restart(server: RedisServer, redis_client: redis.Redis) -> None:
    script = (
        STORE
        + """
store.upsert({"before": 1})
print("written", flush=True)
sys.stdin.readline()
while True:
    try:
        store.upsert({"after": 1})
        break
    except StorageError:
        pass
"""
    )
    process = start_script(script, server.url)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    eventually(lambda: len(entries(redis_client)) == 1)
    server.restart()
    process.communicate("go\n", timeout=60)
    assert process.returncode == 0
    ids = [ids for _, ids in entries(redis_client)]
    assert ids in ([["before"], ["after"]], [["after"]])  # the file is not synced


def test_an_entry_names_what_was_confirmed_and_nothing_else(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    """A user who may write some of the ids: the others are refused, each by itself."""
    redis_client.execute_command(
        *("ACL", "SETUSER", "writer", "reset", "on", ">secret", "+@all"),
        *("~nano_graphrag:full_docs:mine*", "~nano_graphrag:@*"),
    )
    script = """
store = SyncRedisKVStorage("full_docs", {
    "redis_url": URL, "redis_username": "writer", "redis_password": "secret",
    "redis_changes": True,
})
try:
    store.upsert({"mine-1": 1, "other": 2, "mine-2": 3})
except StorageError as error:
    print(*error.unconfirmed_ids)
"""
    try:
        assert run_script(script, server.url).out.split() == ["other"]
    finally:
        redis_client.execute_command("ACL", "DELUSER", "writer")
    assert [ids for _, ids in entries(redis_client)] == [["mine-1", "mine-2"]]
