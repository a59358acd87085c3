"""A future belongs to one loop. A storage that kept a loop would serve no second one."""

import asyncio
import gc
import selectors
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
import uvloop

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage, _core
from support.conditions import eventually
from support.proxy import Proxy
from support.scripts import run_script
from support.servers import RedisServer

T = TypeVar("T")
MakeLoop = Callable[[], asyncio.AbstractEventLoop]
PATIENCE = 10.0


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """Watches no sockets of others, as the Proactor loop of Windows."""

    def add_reader(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise NotImplementedError


def debugging_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


class CountingSelector(selectors.DefaultSelector):
    """Counts the passes of its loop, each of which asks it, and the descriptors that woke it."""

    passes = woken = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout)
        self.passes += 1
        self.woken += len(ready)
        return ready


def run(make_loop: MakeLoop, call: Coroutine[Any, Any, T]) -> T:
    with closing(make_loop()) as loop:
        return loop.run_until_complete(asyncio.wait_for(call, PATIENCE))


async def numbered_reads(storage: RedisKVStorage, count: int = 200) -> None:
    ids = [f"id-{number}" for number in range(count)]
    await storage.upsert({id: id for id in ids})
    assert await asyncio.gather(*map(storage.get_by_id, ids)) == ids


HUNDREDS_OF_RUNS = """
asyncio.run(storage.upsert({"a": 1}))
counts = []
for _ in range(int(sys.argv[2])):
    assert asyncio.run(storage.get_by_id("a")) == 1
    counts.append(len(os.listdir("/proc/self/fd")))
print(max(counts) - counts[0])
"""


# Nobody tells us that a loop was closed, and each has a socket pair of ours.
def test_a_hundred_loops_in_a_row_leave_no_descriptors_behind(server: RedisServer) -> None:
    more = int(run_script(HUNDREDS_OF_RUNS, server.url, 100).cleanly())
    assert more < 10  # a loop that leaves its pair makes 200; a busy machine, a connection or two


def test_eight_loops_at_once_each_get_their_own_answers(storage: RedisKVStorage) -> None:
    together = threading.Barrier(8)

    def serve(_: int) -> None:
        together.wait()
        for _ in range(5):
            asyncio.run(numbered_reads(storage))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(serve, range(8)))


@pytest.mark.parametrize(
    "make_loop",
    [asyncio.new_event_loop, uvloop.new_event_loop, LoopWithoutReaders, debugging_loop],
)
def test_every_kind_of_loop_is_served(storage: RedisKVStorage, make_loop: MakeLoop) -> None:
    for _ in range(3):
        run(make_loop, numbered_reads(storage))


def test_eight_loops_without_readers_at_once_are_served(storage: RedisKVStorage) -> None:
    with ThreadPoolExecutor(8) as pool:
        served = [pool.submit(run, LoopWithoutReaders, numbered_reads(storage)) for _ in range(8)]
        for each in served:
            each.result()


FILES_THAT_NOBODY_WRITES = """
from contextlib import closing, suppress

class LoopWithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *_):
        raise NotImplementedError

def open_pipe(path):
    with suppress(OSError):  # nobody reads it yet
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    return None

def log_in(user, path):
    login = {"redis_url": URL, "redis_username": user, "redis_password_file": path}
    with SyncRedisKVStorage("full_docs", login) as other:
        other.check_health()

with closing(LoopWithoutReaders()) as loop:
    loop.run_until_complete(storage.upsert({"a": 1}))
    pipes = []
    for number in range(6):  # as many as are read at once
        path = os.path.join(sys.argv[2], str(number))
        os.mkfifo(path)
        threading.Thread(target=log_in, args=(f"user-{number}", path)).start()
        pipe = None
        while pipe is None:
            pipe = open_pipe(path)
        pipes.append(pipe)
    read = asyncio.wait_for(storage.get_by_id("a"), 5)
    print(loop.run_until_complete(read))
    for pipe in pipes:
        os.close(pipe)
"""


def test_a_loop_without_readers_is_woken_while_files_and_names_are_waited_for(
    server: RedisServer, tmp_path: Path
) -> None:
    ended = run_script(FILES_THAT_NOBODY_WRITES, server.url, tmp_path)
    assert (ended.code, ended.out) == (0, "1\n"), ended


# The driver of a loop is found by the loop's address, and addresses are used again.
def test_a_loop_at_the_address_of_a_freed_one_gets_its_answers(storage: RedisKVStorage) -> None:
    addresses = set()
    for _ in range(20):
        with closing(asyncio.new_event_loop()) as loop:
            addresses.add(id(loop))
            loop.run_until_complete(asyncio.wait_for(storage.get_by_id("a"), PATIENCE))
        del loop
        gc.collect()
    assert len(addresses) < 20, "no address was used again: the test shows nothing"


# One pass sees the answer, the next one runs its caller, whose next call leaves in the same pass.
# A call that waits for others to join it takes one more; a loop that is rung for what it reads
# itself is woken once more.
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_call_that_is_alone_takes_two_passes_of_its_loop_and_wakes_it_once(
    storage: RedisKVStorage, write: bool
) -> None:
    async def calls(count: int) -> None:
        for _ in range(count):
            await (storage.upsert({"a": 1}) if write else storage.get_by_id("a"))

    selector = CountingSelector()
    with closing(asyncio.SelectorEventLoop(selector)) as loop:
        loop.run_until_complete(calls(10))
        passes, woken = selector.passes, selector.woken
        loop.run_until_complete(calls(100))
    assert selector.passes - passes < 250
    assert selector.woken - woken < 150


async def cancelled(storage: RedisKVStorage) -> None:
    calls = under_way(storage)
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()


async def abandoned(storage: RedisKVStorage) -> None:
    under_way(storage)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def unsent(storage: RedisKVStorage) -> None:
    under_way(storage)
    await asyncio.sleep(0)


async def gathered(storage: RedisKVStorage) -> None:
    asyncio.gather(*under_way(storage), return_exceptions=True)
    await asyncio.sleep(0)


def under_way(storage: RedisKVStorage) -> list[asyncio.Future[Any]]:
    """Reads and writes that wait in batches with others, and alone, of a server that is silent."""
    many = [str(number) for number in range(1000)]
    calls = [storage.get_by_id("a"), storage.upsert({"a": 2}), storage.get_by_ids(many)]
    return [asyncio.ensure_future(call) for call in calls]


def stopped(make_loop: MakeLoop, call: Coroutine[Any, Any, None]) -> None:
    """Closes the loop over whatever is under way, as `asyncio.run` does not."""
    with closing(make_loop()) as loop:
        loop.run_until_complete(call)


RUNS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {
    "asyncio": asyncio.run,
    "uvloop": uvloop.run,
    "asyncio-stopped": partial(stopped, asyncio.new_event_loop),
    "uvloop-stopped": partial(stopped, uvloop.new_event_loop),
}


# Nobody tells us that a loop was closed: what it holds has to go with it.
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("leave", [cancelled, abandoned, unsent, gathered])
def test_a_closed_loop_lets_go_of_the_calls_left_in_it(
    server: RedisServer,
    run: Callable[[Coroutine[Any, Any, None]], None],
    leave: Callable[[RedisKVStorage], Coroutine[Any, Any, None]],
) -> None:
    async def main() -> None:
        await storage.upsert({"a": 1})
        proxy.blackhole = True
        await leave(storage)

    def sets() -> Sequence[object]:
        servers = _core.metrics()["servers"]
        return servers[address]["sets"] if address in servers else ()

    with Proxy(server.port) as proxy:
        address = f"{proxy.url}/0"
        storage = RedisKVStorage("full_docs", {"redis_url": proxy.url})
        with closing(storage.sync):
            run(main())
            assert len(sets()) == 1
        eventually(lambda: not sets())


def test_one_loop_may_run_again_and_again(storage: RedisKVStorage) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        for number in range(50):
            loop.run_until_complete(storage.upsert({"a": number}))
            assert loop.run_until_complete(storage.get_by_id("a")) == number


# A read leaves at the end of the loop's turn; the loop may stop before.
def test_a_call_left_behind_is_finished_when_the_loop_runs_again(storage: RedisKVStorage) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        pending = loop.create_task(storage.get_by_id("a"))
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.run_until_complete(asyncio.wait_for(pending, PATIENCE)) is None


# The loop's thread waits, so an answer that needed the loop would never come.
def test_sync_calls_inside_a_running_loop_do_not_deadlock(
    storage: RedisKVStorage, sync: SyncRedisKVStorage
) -> None:
    async def both_ways() -> None:
        pending = asyncio.ensure_future(storage.upsert({"a": 1}))
        await asyncio.sleep(0)
        sync.upsert({f"b{number}": number for number in range(1000)})
        assert sync.get_by_ids(["b0", "b999"]) == [0, 999]
        await pending
        assert sync.get_by_id("a") == 1

    asyncio.run(asyncio.wait_for(both_ways(), PATIENCE))
