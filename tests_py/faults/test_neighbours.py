"""One namespace among others on a server: it touches its own keys, and leaves others their turn."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
import redis

from nano_graphrag_redis import SyncRedisKVStorage
from support.conditions import eventually
from support.servers import RedisServer

from .conftest import OpenStorage
from .rows import Row

LETTERS = "ab*?[]^-\\{}é\n "
"""Of the names: glob characters, hash tags, and few others, so that names look alike."""


def name(chance: random.Random) -> str:
    return "".join(chance.choices(LETTERS, k=chance.randint(1, 4)))


def keys(client: redis.Redis) -> set[bytes]:
    return set(client.scan_iter("*", count=1_000))


# A pattern that is not escaped finds others' keys, and `drop` would delete them.
@pytest.mark.row(19)
def test_dropping_a_namespace_deletes_no_key_of_one_that_looks_alike(
    row: Row, server: RedisServer
) -> None:
    chance = random.Random(19)
    client = server.client()
    foreign = dropped = 0
    for trial in range(row.pick(quick=60, full=2_500)):
        registry = {"redis_registry": trial % 3 == 0}
        own, others = name(chance), {name(chance) for _ in range(6)} | {"full_docs"}
        others.discard(own)
        key = f"nano_graphrag:{own}:"
        with ExitStack() as stack:
            for each in others:
                place = chance.choice([{}, {}, {"redis_workspace": own}, {"redis_key_prefix": own}])
                store = SyncRedisKVStorage(each, {"redis_url": server.url, **registry, **place})
                stack.enter_context(store).upsert({"a": 1, key: 2, name(chance): 3})
            before = keys(client)
            store = SyncRedisKVStorage(own, {"redis_url": server.url, **registry})
            stack.enter_context(store).upsert({"a": 1, "*": 2, key: 3})
            assert sorted(store.all_keys()) == sorted(["a", "*", key])
            store.drop()
            assert store.all_keys() == []
        own_keys = {each for each in before if each.startswith(key.encode())}
        foreign += len(before - own_keys - keys(client))
        dropped += 3
        client.flushall()
    row.none("foreign deletes", foreign, of=dropped)


@pytest.mark.row(20)
def test_others_are_served_while_a_namespace_of_a_million_keys_is_dropped(
    row: Row, open_storage: OpenStorage
) -> None:
    count = row.pick(quick=400_000, full=1_000_000)
    times: list[tuple[float, float]] = []  # when a call began, and how long it took
    over = threading.Event()
    with RedisServer(enable_debug_command="yes", slowlog_log_slower_than="1000") as server:
        fill(server, count)
        server.client().slowlog_reset()
        mine = open_storage("text_chunks", redis_url=server.url).sync
        mine.upsert({"a": {"content": "x" * 1_000}})

        def read() -> None:
            while not over.is_set():
                began = time.monotonic()
                mine.get_by_id("a")
                times.append((began, time.monotonic() - began))
                time.sleep(0.001)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(row.pick(quick=0.5, full=3.0))
        alone = p99([took for _, took in times])
        # In another process, as another worker would.
        begin, end = map(float, dropping(server).communicate(timeout=170)[0].split())
        over.set()
        reader.join()
        assert server.client().dbsize() == 1
        slow = server.client().slowlog_get(1_000)
    row.saw(f"drop of {count:,} keys", f"{end - begin:.2f} s")
    row.saw("p99 before it", f"{alone * 1000:.2f} ms")
    # On a machine that others use, what a call takes anyway is not the drop's doing.
    meanwhile = [took for began, took in times if begin < began + took <= end + took]
    seen = p99(meanwhile) - row.pick(quick=alone, full=0.0)
    row.within("others' p99", seen, promised=0.01)
    # A single command that nobody can be served beside is too rare for a 99th percentile.
    longest = max((each["duration"] for each in slow), default=0) / 1e6
    row.within("the drop's longest command", longest, promised=0.01)


def p99(times: list[float]) -> float:
    assert len(times) > 20
    return statistics.quantiles(times, n=100)[-1]


DROP = """
import sys, time
from nano_graphrag_redis import SyncRedisKVStorage
began = time.monotonic()
with SyncRedisKVStorage("full_docs", {"redis_url": sys.argv[1]}) as storage:
    storage.drop()
print(began, time.monotonic())
"""


def fill(server: RedisServer, keys: int) -> None:
    server.client().execute_command("DEBUG", "POPULATE", keys, "nano_graphrag:full_docs", 100)


def dropping(server: RedisServer) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DROP, server.url], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.row(20)
def test_a_drop_that_was_killed_can_be_run_again(row: Row) -> None:
    keys = row.pick(quick=100_000, full=1_000_000)
    with RedisServer(enable_debug_command="yes") as server:
        fill(server, keys)
        client = server.client()
        process = dropping(server)
        eventually(lambda: client.dbsize() < keys)
        process.kill()
        process.communicate()
        left = client.dbsize()
        row.saw("left by a killed drop", left)
        assert 0 < left < keys, "the drop was not killed half-way: the test shows nothing"
        dropping(server).communicate(timeout=170)
        row.none("keys left by the next drop", client.dbsize(), of=left)
