"""Threads with small stacks, and values that nest: an overflow of the stack ends the process.

Each in a process of its own, so that a crash fails one test.
"""

from __future__ import annotations

import pytest

from support.scripts import Ended, run_script
from support.servers import RedisServer

from .rows import Row

DEEPEST = 900

CALLS = """
def nested(levels, kind):
    value = "leaf"
    for _ in range(levels):
        value = {"a": value} if kind == "dicts" else [value]
    return value

def levels_of(value):
    levels = 0
    while value != "leaf":
        value = value["a"] if isinstance(value, dict) else value[0]
        levels += 1
    return levels

def counted(work):
    try:
        return work()
    except StorageError as error:
        return error

def in_thread(kib, work):
    threading.stack_size(kib * 1024)
    results = []
    thread = threading.Thread(target=lambda: results.append(counted(work)))
    thread.start()
    thread.join()
    threading.stack_size(0)
    return results[0]

def is_named(error, kind):
    assert isinstance(error, kind), error
    assert "this thread's stack has room for" in str(error) and error.id is not None, error
"""

EVERY_CALL = """
kib = int(sys.argv[2])

def every_call():
    blocking = SyncRedisKVStorage("full_docs", {"redis_url": URL})
    blocking.upsert({"k": {"a": 1}, "l": [1]})
    assert blocking.get_by_id("k") == {"a": 1}
    assert blocking.get_by_ids(["k", "l"]) == [{"a": 1}, [1]]
    assert blocking.get_by_ids(["k"], {"a"}) == [{"a": 1}]
    assert blocking.filter_keys(["k", "m"]) == {"m"}
    assert sorted(blocking.all_keys()) == ["k", "l"]
    assert blocking.get_stats()["key_count"] == 2
    assert blocking.check_health()
    blocking.index_done_callback()
    assert blocking.delete_by_id("l") and blocking.delete_by_ids(["k"]) == 1
    blocking.upsert({"k": 1})
    blocking.drop()
    blocking.close()
    return "done"

def in_loop():
    async def main():
        await storage.upsert({"k": {"a": 1}})
        await asyncio.gather(*(storage.upsert({str(n): n}) for n in range(50)))
        assert await storage.get_by_ids([str(n) for n in range(50)]) == list(range(50))
        assert len(await storage.all_keys()) == 51
        await storage.drop()
    asyncio.run(main())
    return "done"

assert in_thread(kib, every_call) == "done"
assert in_thread(kib, in_loop) == "done"
assert in_thread(0, every_call) == "done"
"""

DEPTHS = """
kib = int(sys.argv[2])
refused = 0
for kind in ("dicts", "lists"):
    for levels in (1, 10, 50, 100, 200, 400, 660, 710, 900):
        value = nested(levels, kind)
        written = in_thread(kib, lambda: storage.sync.upsert({"deep": value}))
        if written is not None:
            is_named(written, StorageSerializationError)
            refused += 1
        storage.sync.upsert({"deep": value})
        for read in (
            lambda: storage.sync.get_by_id("deep"),
            lambda: storage.sync.get_by_ids(["deep"])[0],
            lambda: storage.sync.get_by_ids(["deep"], {"a"})[0] if kind == "dicts" else value,
        ):
            found = in_thread(kib, read)
            if isinstance(found, StorageError):
                is_named(found, CorruptValueError)
                refused += 1
            else:
                assert levels_of(found) == levels
        assert levels_of(storage.sync.get_by_id("deep")) == levels
print(refused)
"""

DEEPEST_ANYWHERE = """
from concurrent.futures import ThreadPoolExecutor

def there_and_back():
    storage.sync.upsert({"deep": nested(900, "dicts")})
    return levels_of(storage.sync.get_by_id("deep"))

async def awaited():
    await storage.upsert({"deep": nested(900, "lists")})
    assert await asyncio.to_thread(there_and_back) == 900
    return levels_of(await storage.get_by_id("deep"))

assert there_and_back() == 900
assert asyncio.run(awaited()) == 900
with ThreadPoolExecutor(1) as pool:
    assert pool.submit(there_and_back).result() == 900
"""

SMALL_MAIN_STACK = """
import resource
if "SMALL" not in os.environ:  # the limit is that of the programs started from here on
    resource.setrlimit(resource.RLIMIT_STACK, (256 * 1024, resource.RLIM_INFINITY))
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "SMALL": "1"})
deep = nested(900, "dicts")
outcome = counted(lambda: storage.sync.upsert({"deep": deep}))
if outcome is not None:
    is_named(outcome, StorageSerializationError)
storage.sync.upsert({"flat": {"a": 1}})
assert storage.sync.get_by_id("flat") == {"a": 1}
assert asyncio.run(storage.get_by_id("flat")) == {"a": 1}
"""

NO_MEMORY = """
import resource

def refused():
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as sizes:
        pages = int(sizes.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**20, hard))
    try:
        return storage.sync.get_by_id("k")
    except StorageError as error:
        return error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

storage.sync.upsert({"k": 1})
error = in_thread(128, refused)
assert isinstance(error, StorageError) and "no memory for a stack" in str(error), error
assert in_thread(128, lambda: storage.sync.get_by_id("k")) == 1
"""


def crashed(ended: Ended) -> int:
    """Whether a signal ended it; any other failure fails the test."""
    if ended.code >= 0:
        ended.cleanly()
    return int(ended.code < 0)


@pytest.mark.row(40)
@pytest.mark.parametrize("kib", [64, 128, 256, 320, 512])
def test_every_call_works_in_a_thread_with_a_small_stack(
    row: Row, own_server: RedisServer, kib: int
) -> None:
    ended = run_script(CALLS + EVERY_CALL, own_server.url, kib)
    row.none(f"crashes of every call in {kib} KiB", crashed(ended), of=1)


@pytest.mark.row(40)
@pytest.mark.parametrize("kib", [64, 128, 256, 512, 1024])
def test_a_value_too_deep_for_the_stack_is_an_error(
    row: Row, own_server: RedisServer, kib: int
) -> None:
    ended = run_script(CALLS + DEPTHS, own_server.url, kib)
    row.none(f"crashes of nested values in {kib} KiB", crashed(ended), of=1)
    if kib <= 128:
        assert int(ended.out) > 0, "nothing was too deep: the sizes show nothing"


@pytest.mark.row(40)
def test_the_deepest_value_works_on_every_default_stack(row: Row, own_server: RedisServer) -> None:
    ended = run_script(CALLS + DEEPEST_ANYWHERE, own_server.url)
    row.none(f"crashes at {DEEPEST} levels on default stacks", crashed(ended), of=1)


@pytest.mark.row(40)
def test_a_process_started_with_a_small_stack_works(row: Row, own_server: RedisServer) -> None:
    ended = run_script(CALLS + SMALL_MAIN_STACK, own_server.url)
    row.none("crashes of a process with a main stack of 256 KiB", crashed(ended), of=1)


@pytest.mark.row(40)
def test_without_memory_for_a_larger_stack_a_call_is_an_error(
    row: Row, own_server: RedisServer
) -> None:
    ended = run_script(CALLS + NO_MEMORY, own_server.url)
    # Not `crashed`: stderr holds the report of the panic, which is caught.
    row.none("crashes without memory for a larger stack", int(ended.code < 0), of=1)
    assert ended.code == 0, ended
