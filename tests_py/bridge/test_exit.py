"""A thread that comes back to an interpreter being finalized is ended in the middle of its frames,
which aborts the process. A pending call must not bring one back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nano_graphrag_redis.workers.merged_counters import merged
from support.scripts import run_script
from support.servers import RedisServer

SECONDS = 3 * 5
"""Promised: 3; imports included here, and others use the machine."""


PENDING = """
async def main():
    await storage.upsert({"a": 1})
    os.kill(int(sys.argv[2]), signal.SIGSTOP)
    for _ in range(50):
        pending.append(asyncio.ensure_future(storage.get_by_id("a")))
    await asyncio.sleep(0.05)

pending = []
"""
AFTER_RUN = PENDING + "asyncio.run(main())"
AFTER_RUN_UNTIL_COMPLETE = (
    PENDING
    + """
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
warnings.simplefilter("ignore", ResourceWarning)
"""
)


def blocked_in(call: str) -> str:
    """A script that ends while 64 daemon threads are in a blocking call."""
    return f"""
storage.sync.upsert({{"a": 1}})
os.kill(int(sys.argv[2]), signal.SIGSTOP)
for _ in range(64):  # each looks for signals every 50 ms: one comes back every millisecond
    threading.Thread(target=lambda: storage.sync.{call}, daemon=True).start()
time.sleep(0.2)  # in their calls; nothing tells when
"""


def only_asyncio_speaks(said: str) -> bool:
    """Whether these are but Python's own words on tasks that were never finished."""
    own_words = ("Task was destroyed but it is pending!", "task: <Task pending")
    return all(line.startswith(own_words) for line in said.splitlines())


def test_after_asyncio_run_with_calls_pending_the_exit_is_silent(own_server: RedisServer) -> None:
    ended = run_script(AFTER_RUN, own_server.url, own_server.pid)
    own_server.resume()
    assert ended.cleanly() == ""
    assert ended.seconds < SECONDS


# Their loops are never closed, and Python reports the tasks by itself.
def test_after_a_bare_run_until_complete_only_asyncio_speaks(own_server: RedisServer) -> None:
    ended = run_script(AFTER_RUN_UNTIL_COMPLETE, own_server.url, own_server.pid)
    own_server.resume()
    assert ended.code == 0, ended
    assert only_asyncio_speaks(ended.err), ended.err
    assert ended.seconds < SECONDS


@pytest.mark.parametrize("call", ["get_by_id('a')", "get_by_ids(['a'] * 500)", "drop()"])
def test_daemon_threads_blocked_in_calls_do_not_hold_up_the_exit(
    own_server: RedisServer, call: str
) -> None:
    ended = run_script(blocked_in(call), own_server.url, own_server.pid)
    own_server.resume()
    assert ended.cleanly() == ""
    assert ended.seconds < SECONDS


BUSY = """
class LoopWithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *_):
        raise NotImplementedError

def awaiting(make_loop):
    async def one():
        while True:
            await storage.get_by_id("a")
            busy.release()
    async def main():
        await asyncio.gather(*(one() for _ in range(64)))
    make_loop().run_until_complete(main())

def blocking():
    while True:
        storage.sync.get_by_ids(["a"] * 100)
        for _ in range(10):
            busy.release()

busy = threading.Semaphore(0)
works = {
    "loop": lambda: awaiting(asyncio.new_event_loop),
    "loop without readers": lambda: awaiting(LoopWithoutReaders),
    "blocking": blocking,
}
for _ in range(2):
    threading.Thread(target=works[sys.argv[2]], daemon=True).start()
for _ in range(200):
    busy.acquire()
"""


@pytest.mark.parametrize("work", ["loop", "loop without readers", "blocking"])
def test_daemon_threads_busy_with_answers_do_not_abort_the_exit(
    server: RedisServer, work: str
) -> None:
    for _ in range(5):
        ended = run_script(BUSY, server.url, work)
        assert ended.cleanly() == ""
        assert ended.seconds < SECONDS


def test_threads_that_are_no_daemons_finish_their_calls(server: RedisServer) -> None:
    script = """
    def work(name):
        for number in range(200):
            storage.sync.upsert({name: number})
        assert storage.sync.get_by_id(name) == 199

    for number in range(4):
        threading.Thread(target=work, args=(f"thread-{number}",)).start()
    """
    assert run_script(script, server.url).cleanly() == ""
    assert len(server.client().keys("nano_graphrag:full_docs:thread-*")) == 4


def test_an_exit_from_a_callback_is_the_applications_own(server: RedisServer) -> None:
    script = """
    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(storage.get_by_id("a"))
        task.add_done_callback(lambda _: sys.exit(7))
        await asyncio.sleep(60)

    asyncio.run(main())
    """
    ended = run_script(script, server.url)
    assert (ended.code, ended.err) == (7, ""), ended


# Handlers run in the opposite order: those registered after the import run before ours.
def test_exit_handlers_of_the_application_may_still_use_the_storage(server: RedisServer) -> None:
    script = """
    import atexit

    def last_words():
        storage.sync.upsert({"last": "words"})
        print(storage.sync.get_by_id("last"), asyncio.run(storage.get_by_id("last")))

    atexit.register(last_words)
    """
    assert run_script(script, server.url).cleanly() == "words words\n"


def test_an_exit_while_others_collect_and_answers_arrive_is_clean(server: RedisServer) -> None:
    script = """
    async def main():
        await storage.upsert({str(n): n for n in range(1000)})
        for n in range(1000):
            pending.append(asyncio.ensure_future(storage.get_by_id(str(n))))
        await asyncio.sleep(0)

    pending = []
    asyncio.run(main())
    """
    for _ in range(5):
        assert run_script(script, server.url).cleanly() == ""


CHILDREN = """
import logging, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from nano_graphrag_redis import SyncRedisKVStorage

storages = []

def work(number):
    logging.disable()
    storages.append(SyncRedisKVStorage("full_docs", {"working_dir": DIRECTORY}))
    storages[-1].upsert({f"{number}-{each}": each for each in range(10)})

URL, DIRECTORY, METHOD = sys.argv[1:]
os.environ |= {
    "REDIS_URL": URL, "REDIS_METRICS_DIR": f"{DIRECTORY}/metrics",
    "REDIS_DUAL_WRITE": "on", "REDIS_CHANGES": "on",
}
if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(work, range(3, 9)))
"""


# Those that were forked end by os._exit: what is registered with atexit alone does not run.
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_of_multiprocessing_leaves_nothing_undone(
    server: RedisServer, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    command = [sys.executable, str(script), server.url, str(tmp_path), method]
    subprocess.run(command, check=True, timeout=60)
    written = merged(tmp_path / "metrics")["namespaces"]["full_docs"]
    assert written["operations"]["upsert"]["statuses"]["ok"] == 9
    assert len(json.loads((tmp_path / "kv_store_full_docs.json").read_text())) == 90
    with server.client() as client:
        assert client.xlen("nano_graphrag:@changes:full_docs") == 9


def test_a_child_of_multiprocessing_folds_no_files_of_its_parent(
    server: RedisServer, tmp_path: Path
) -> None:
    script = """
    import multiprocessing
    from pathlib import Path
    settings = {"redis_url": URL, "redis_dual_write": True, "working_dir": sys.argv[2]}
    docs = SyncRedisKVStorage("full_docs", settings)
    docs.upsert({"a": 1})
    log = Path(sys.argv[2]) / "kv_store_full_docs.changes"
    before = log.read_bytes()
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert log.read_bytes() == before
    docs.close()
    assert not log.exists()
    """
    run_script(script, server.url, tmp_path).cleanly()
