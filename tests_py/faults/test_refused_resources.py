"""A process that is refused threads or descriptors gets an error, and goes on.

Each in a process of its own: a limit binds all of it, and it may end by a signal or hang.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.scripts import Ended, run_script
from support.servers import RedisServer

from .rows import Row

CALLS = """
if sys.argv[4] == "stacks" and "RUST_MIN_STACK" not in os.environ:  # read when a program starts
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "RUST_MIN_STACK": str(4 << 30)})

import atexit, contextlib, resource
from pathlib import Path
import nano_graphrag_redis.threads, nano_graphrag_redis.workers.counter_writer
import concurrent.futures.thread

kind, directory = sys.argv[2], sys.argv[3]
os.chdir(directory)
url = URL.replace("127.0.0.1", "localhost") if kind == "by name" else URL
settings = {
    "redis_url": url,
    "redis_operation_timeout": 5,
    **{
        "near cache": {"redis_near_cache_mb": 64},
        "dual writing": {"redis_dual_write": True, "working_dir": directory},
        "zstd": {"redis_compression": "zstd"},
        "lz4": {"redis_compression": "lz4"},
        "metrics": {"redis_metrics_dir": directory + "/metrics"},
        "limits": {"redis_single_flight": "on"},
    }.get(kind, {}),
}
loop = asyncio.new_event_loop()
atexit.register(loop.close)
known = (StorageError, MemoryError)

@contextlib.contextmanager
def limited(which, limit):
    before = resource.getrlimit(which)
    resource.setrlimit(which, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)

def threads_of_core():
    names = Path("/proc/self/task").glob("*/comm")
    return sum(name.read_text().startswith("nano-graphrag-r") for name in names)

def address_space():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[0]) * resource.getpagesize()

def outcome(call):
    try:
        call()
    except known as error:
        assert str(error), type(error)
        return type(error).__name__
    return "works"
"""

THREADS = """
way, permitted = sys.argv[4], int(sys.argv[5])

def blocking():
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": {"text": "x" * 200_000}})
        assert storage.get_by_id("a") == {"text": "x" * 200_000}
        storage.index_done_callback()

async def awaited():
    async with RedisKVStorage("full_docs", settings) as storage:
        await asyncio.gather(*(storage.upsert({str(n): "x" * 200_000}) for n in range(20)))
        assert (await storage.get_by_ids(["1", "2"])) == ["x" * 200_000] * 2
        await storage.index_done_callback()

def each():
    outcomes = [outcome(blocking), outcome(lambda: loop.run_until_complete(awaited()))]
    if "works" not in outcomes:
        assert threads_of_core() == 0, "threads were left behind"
    return outcomes

if way == "stacks":
    # A thread of the core takes a mapping of 4 GiB: the limit of memory says how many there are.
    with limited(resource.RLIMIT_AS, address_space() + (2 + 4 * permitted) * 2**30):
        print(each())
    # A limit that is gone is forgotten.
    assert each() == ["works", "works"]
else:
    mine = os.getuid() or 100_000 + os.getpid()
    if os.getuid() == 0:
        os.setuid(mine)  # the limit does not bind root
    threads = 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat("/proc/" + process).st_uid == mine:
                threads += len(os.listdir(f"/proc/{process}/task"))
    with limited(resource.RLIMIT_NPROC, max(threads, 1) + permitted):
        print(each())
"""

KINDS = [
    "plain",
    "near cache",
    "dual writing",
    *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("by name", "zstd", "metrics")),
]


def ends(ended: Ended) -> str:
    """What it printed; a signal or a traceback fails the test."""
    assert ended.code == 0, ended
    assert "Traceback" not in ended.err, ended
    assert "panicked" not in ended.err, ended
    return ended.out


@pytest.mark.row(41)
@pytest.mark.parametrize("way", ["stacks", "processes"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_without_threads_gets_an_error_or_works(
    row: Row, own_server: RedisServer, tmp_path: Path, kind: str, way: str
) -> None:
    tmp_path.chmod(0o777)
    counts = row.pick(quick=[0, 1, 3], full=[*range(8)])
    worked = []
    for permitted in counts:
        ended = run_script(CALLS + THREADS, own_server.url, kind, tmp_path, way, permitted)
        worked.append(ends(ended).count("works"))
    row.none(f"hangs and aborts without threads, {kind}, {way}", 0, of=len(counts))
    assert worked[0] == 0, "threads were not refused: the limit shows nothing"
    assert worked[-1] == 2


DESCRIPTORS = """
def blocking():
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": 1})
        assert storage.get_by_id("a") == 1

def awaited():
    async def main():
        async with RedisKVStorage("full_docs", settings) as storage:
            await storage.upsert({"a": 1})
            assert await storage.get_by_id("a") == 1
    loop.run_until_complete(main())

known = (*known, OSError)
used = max(map(int, os.listdir("/proc/self/fd"))) + 1
worked = []
for free in range(int(sys.argv[4])):
    with limited(resource.RLIMIT_NOFILE, used + free):
        worked.append([outcome(blocking), outcome(awaited)].count("works"))
    assert [outcome(blocking), outcome(awaited)] == ["works", "works"]
print(*worked)
"""


@pytest.mark.row(41)
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_without_descriptors_gets_an_error_or_works(
    row: Row, own_server: RedisServer, tmp_path: Path, kind: str
) -> None:
    free = row.pick(quick=12, full=40)
    ended = run_script(CALLS + DESCRIPTORS, own_server.url, kind, tmp_path, free)
    worked = ends(ended).split()
    row.none(f"hangs and aborts without descriptors, {kind}", 0, of=free)
    assert worked[0] == "0", "descriptors were not refused: the limits show nothing"


CACHE = """
way, first = sys.argv[4:]
cache = RedisKVStorage("llm_response_cache", settings)

def cached_llm_call(storage, wait):
    assert wait(storage.get_by_id("a")) is None
    assert wait(storage.get_by_ids(["a", "b"])) == [None, None]
    assert wait(storage.filter_keys(["a", "b"])) == {"a", "b"}
    wait(storage.upsert({"a": 1}))
    wait(storage.index_done_callback())

ways = [(cache, loop.run_until_complete), (cache.sync, lambda given: given)]
used = max(map(int, os.listdir("/proc/self/fd"))) + 1
limits = {
    "stacks": (resource.RLIMIT_AS, address_space() + 2**30),
    "descriptors": (resource.RLIMIT_NOFILE, used),
}
with limited(*limits[way]):
    for storage, wait in ways if first == "awaited" else reversed(ways):
        cached_llm_call(storage, wait)
print({kind: count for kind, count in cache.sync.get_stats()["forgiven"].items() if count})
loop.run_until_complete(cache.upsert({"a": 1}))
assert [cache.sync.get_by_id("a"), loop.run_until_complete(cache.get_by_id("a"))] == [1, 1]
"""


@pytest.mark.row(41)
@pytest.mark.parametrize("first", ["awaited", "blocking"])
@pytest.mark.parametrize("way", ["stacks", "descriptors"])
def test_the_first_calls_of_a_cache_miss_where_a_process_is_refused_what_they_need(
    row: Row, own_server: RedisServer, tmp_path: Path, way: str, first: str
) -> None:
    ended = run_script(CALLS + CACHE, own_server.url, "plain", tmp_path, way, first)
    assert ends(ended) == "{'unavailable': 10}\n"
    row.none(f"cached calls that raised without {way}", 0, of=10)
