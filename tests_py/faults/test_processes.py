"""What happens to a process: it forks, is interrupted, ends."""

from __future__ import annotations

import pytest

from bridge.test_exit import (
    AFTER_RUN,
    AFTER_RUN_UNTIL_COMPLETE,
    BUSY,
    blocked_in,
    only_asyncio_speaks,
)
from bridge.test_fork import HELPERS
from bridge.test_interrupts import STALLED
from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

FORKS = """
import multiprocessing

def child(round):
    signal.alarm(20)
    use(round)
    assert received(os.getpid()), "no connections of its own"

def by_fork(round):
    if (pid := os.fork()) == 0:
        child(round)
        sys.exit(0)
    return pid

def by_multiprocessing(round):
    process = multiprocessing.get_context("fork").Process(target=child, args=(round,))
    process.start()
    return process

def from_a_busy_loop(round):
    async def main():
        pending = [asyncio.ensure_future(storage.get_by_id(f"id-{n}")) for n in range(20)]
        await asyncio.sleep(0)
        if (pid := os.fork()) == 0:
            thread = threading.Thread(target=child, args=(round,))
            thread.start()
            thread.join()
            os._exit(0)
        assert await asyncio.gather(*pending) == [f"id-{n}" for n in range(20)]
        return pid
    return asyncio.run(main())

def failed(child):
    if isinstance(child, int):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    child.join()
    return child.exitcode != 0

def prefork(round, *manners):  # several at once, as a server does
    return sum(map(failed, [manner(round) for manner in manners]))

def work():
    while not done.is_set():
        assert storage.sync.get_by_id("id-1") == "id-1"

signal.alarm(400)
hung = shared = 0
# By multiprocessing last, since a plain fork would have it join its siblings at its exit.
for round in range(0, int(sys.argv[2]), 8):
    before = received(os.getpid())
    hung += prefork(round, by_fork, by_fork, by_multiprocessing, by_multiprocessing)
    shared += received(os.getpid()) != before
    done = threading.Event()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    hung += prefork(round, by_fork, from_a_busy_loop, from_a_busy_loop, by_multiprocessing)
    done.set()
    for thread in threads:
        thread.join()
    use(-1)
print(hung, shared)
"""


# A lock that a thread of the parent held at the fork is never released in the child.
@pytest.mark.row(9)
def test_children_forked_in_any_manner_work_on_sockets_of_their_own(
    row: Row, own_server: RedisServer
) -> None:
    count = row.pick(quick=16, full=200)
    out = run_script(HELPERS + FORKS, own_server.url, count, timeout=400).cleanly()
    hung, shared = map(int, out.split())
    row.none("children that hung or failed", hung, of=count)
    row.none("times that a socket of the parent was used", shared, of=count // 8)


INTERRUPTED = """
signal.alarm(120)
try:
    for _ in range(int(sys.argv[3])):
        interrupted(lambda: storage.sync.get_by_id("a"))
        interrupted(lambda: storage.sync.upsert({str(n): n for n in range(1000)}))
        interrupted(lambda: storage.sync.drop())
finally:
    os.kill(server, signal.SIGCONT)
storage.sync.upsert({"a": 2})
assert storage.sync.get_by_id("a") == 2
"""


@pytest.mark.row(10)
def test_ctrl_c_ends_a_blocking_call_in_time_and_the_storage_stays_usable(
    row: Row, own_server: RedisServer
) -> None:
    times = row.pick(quick=1, full=40)
    script = STALLED + INTERRUPTED
    out = run_script(script, own_server.url, own_server.pid, times, timeout=150).cleanly()
    delays = [float(delay) for delay in out.split()]
    assert len(delays) == 3 * times
    row.within("latest KeyboardInterrupt", max(delays), promised=0.15)
    row.saw("interrupted calls", len(delays))


AFTER_THREADS = """
def work(name):
    for number in range(50):
        storage.sync.upsert({f"{name}-{number}": number})

for name in range(50):
    threading.Thread(target=work, args=(name,)).start()
"""


@pytest.mark.row(11)
def test_an_interpreter_that_exits_with_calls_in_flight_exits_cleanly(
    row: Row, own_server: RedisServer
) -> None:
    slowest, bytes_said, codes, exits = 0.0, 0, set(), 0
    pid = own_server.pid
    scripts: list[tuple[str, object]] = [
        (AFTER_RUN, pid),
        (AFTER_RUN_UNTIL_COMPLETE, pid),
        (AFTER_THREADS, pid),
        (blocked_in("get_by_id('a')"), pid),
        (blocked_in("drop()"), pid),
        (BUSY, "loop"),
        (BUSY, "blocking"),
    ]
    for _ in range(row.pick(quick=1, full=20)):
        for script, argument in scripts:
            ended = run_script(script, own_server.url, argument)
            own_server.resume()
            exits += 1
            codes.add(ended.code)
            slowest = max(slowest, ended.seconds)
            if script is AFTER_RUN_UNTIL_COMPLETE:
                assert only_asyncio_speaks(ended.err), ended.err
            else:
                bytes_said += len(ended.err)
    assert codes == {0}
    row.at_most("bytes on stderr", bytes_said, 0)
    row.within("slowest, start and imports included", slowest, promised=3.0)
    row.saw("exits", exits)
