"""Many calls, loops and threads at once share a handful of threads and sockets."""

from __future__ import annotations

import os
import time

import pytest

from bridge.test_concurrency import SWITCHING, TEN_THOUSAND_READS
from bridge.test_loops import HUNDREDS_OF_RUNS
from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

OUR_THREADS = 6
"""Beside one for each core."""


@pytest.mark.row(32)
def test_ten_thousand_calls_at_once_take_a_handful_of_threads_and_sockets(
    row: Row, server: RedisServer
) -> None:
    wrong = threads = connections = 0
    times = row.pick(quick=1, full=10)
    for _ in range(times):
        out = run_script(TEN_THOUSAND_READS, server.url).cleanly()
        found = [int(word) for word in out.split()]
        wrong += found[0]
        threads, connections = max(threads, found[1]), max(connections, found[2])
    row.none("wrong answers", wrong, of=times * 10_000)
    row.at_most("threads", threads, (os.cpu_count() or 1) + OUR_THREADS)
    row.at_most("sockets", connections, 50)


TWO_KINDS_OF_LOOPS = """
import uvloop

async def reads(name, count):
    ids = [f"{name}-{number}" for number in range(count)]
    await storage.upsert({id: id for id in ids})
    assert await asyncio.gather(*map(storage.get_by_id, ids)) == ids

def serve(name, make_loop):
    for _ in range(int(sys.argv[2])):
        loop = make_loop()
        loop.run_until_complete(reads(name, 100))
        loop.close()
    served.append(name)

served = []
loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
threads = [threading.Thread(target=serve, args=both) for both in loops.items()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(served))
"""


@pytest.mark.row(31)
def test_one_storage_serves_loops_in_a_row_and_at_once(row: Row, server: RedisServer) -> None:
    runs = row.pick(quick=100, full=1_000)
    more = int(run_script(HUNDREDS_OF_RUNS, server.url, runs, timeout=120).cleanly())
    # A leak is one or two a loop; a busy machine may have grown the set by a connection.
    row.at_most(f"descriptors left by {runs} loops in a row", more, 10, "descriptors")
    loops = row.pick(quick=10, full=500)
    served = run_script(TWO_KINDS_OF_LOOPS, server.url, loops, timeout=300).cleanly()
    assert served == "['asyncio', 'uvloop']\n"
    row.none("errors of asyncio and uvloop at once", 0, of=2 * loops * 100)


@pytest.mark.row(34)
def test_threads_that_switch_all_the_time_and_collections_hang_nothing(
    row: Row, server: RedisServer
) -> None:
    seconds = row.pick(quick=2, full=30)
    began = time.monotonic()
    ended = run_script(SWITCHING, server.url, seconds, timeout=seconds + 60)
    assert ended.cleanly() == "['a', 'b', 'c', 'd']\n"
    row.none("hangs of four loops and a collector", 0, of=4)
    row.saw("switching for", f"{time.monotonic() - began:.0f} s")


AT_THE_LIMIT = """
import resource

def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def kind(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__

def refused():
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size() + 2**20, hard))
    for call in (storage.sync.get_by_id, lambda id: asyncio.run(storage.get_by_id(id))):
        print(kind(lambda: call("a")))
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

storage.sync.upsert({"a": 1})
threading.stack_size(128 * 1024)
thread = threading.Thread(target=refused)
thread.start()
thread.join()
print(storage.sync.get_by_id("a"), asyncio.run(storage.get_by_id("a")))
"""
"""No room for the larger stack of a call in a thread with a small one, where stacker panics."""


@pytest.mark.row(34)
def test_a_panic_is_an_exception_like_any_other_and_the_storage_goes_on(
    row: Row, server: RedisServer
) -> None:
    ended = run_script(AT_THE_LIMIT, server.url)
    assert "panicked at" in ended.err, "nothing panicked: the test shows nothing"
    raised = ended.out.split()
    assert ended.code == 0, ended
    assert raised == ["StorageOperationError", "StorageOperationError", "1", "1"]
    row.none("panics that passed `except Exception`", 0, of=2)
