"""A forked child has its parent's memory and sockets, but none of its threads."""

from textwrap import dedent

from support.scripts import run_script
from support.servers import RedisServer

HELPERS = """
import redis

def use(round):
    async def reads():
        return await asyncio.gather(*(storage.get_by_id(f"id-{n}") for n in range(20)))
    assert asyncio.run(reads()) == [f"id-{n}" for n in range(20)]
    storage.sync.upsert({f"pid-{os.getpid()}": round})
    assert storage.sync.get_by_id(f"pid-{os.getpid()}") == round

def received(pid):
    # What the server, a Valkey, received over each connection of a process, in bytes.
    with redis.Redis.from_url(URL) as client:
        mine = [c for c in client.client_list() if c["name"].endswith(f"redis:{pid}")]
        return {c["addr"]: c["tot-net-in"] for c in mine}

def reap(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

# A call on what was inherited is never answered; no retry shall hide that.
patient = {"redis_url": URL, "redis_operation_timeout": 60, "redis_socket_timeout": 60}
storage = RedisKVStorage("full_docs", patient)
signal.alarm(50)  # a child that hangs is ended, and reported by its exit code
storage.sync.upsert({f"id-{n}": f"id-{n}" for n in range(20)})
use(0)
"""


# The child's runtime has no threads: a call on it would wait for ever.
def test_a_forked_child_and_its_parent_work_at_once(server: RedisServer) -> None:
    script = """
    for round in range(20):
        pid = os.fork()
        use(round)
        if pid == 0:
            signal.alarm(20)
            sys.exit(0)
        reap(pid)
    print("served")
    """
    assert run_script(HELPERS + dedent(script), server.url).cleanly() == "served\n"


# The thread that looks is not there in the child, which would wait for it for ever.
def test_a_fork_while_another_thread_makes_the_first_call_leaves_a_child_that_works(
    server: RedisServer,
) -> None:
    script = """
    import types
    looking = threading.Event()
    class Slow(types.ModuleType):
        def __getattribute__(self, name):
            if name == "get_running_loop":
                looking.set()
                time.sleep(0.3)
            return super().__getattribute__(name)
    asyncio.__class__ = Slow
    storage.sync.upsert({"a": 1})
    def read():
        assert asyncio.run(storage.get_by_id("a")) == 1
    thread = threading.Thread(target=read)
    thread.start()
    looking.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        read()
        os._exit(0)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    ended = run_script(script, server.url)
    assert ended.code == 0, ended.err


# As the first process of a container has one that makes a namespace in it.
def test_a_child_with_the_number_of_its_parent_is_another_process(server: RedisServer) -> None:
    script = """
    import ctypes
    new_user, new_pid = 0x10000000, 0x20000000
    system = ctypes.CDLL(None)

    # The first process of a namespace does not die of a signal that it does not handle.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(9))

    def read(own):
        signal.alarm(20)
        for _ in range(20):
            for number in range(100):
                assert storage.sync.get_by_id(f"{own}{number}") == own

    def reap(pid):
        if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            sys.exit(f"a child ended with {code}")

    # Where the system refuses it, the numbers differ.
    refused = system.unshare(new_user | new_pid)
    if first := os.fork():
        reap(first)
        sys.exit(0)
    storage.sync.upsert({f"{own}{number}": own for own in "pc" for number in range(100)})
    read("p")
    assert refused or system.unshare(new_pid) == 0
    pid = os.fork()
    assert refused or os.getpid() == 1
    read("p" if pid else "c")
    if pid:
        reap(pid)
    """
    run_script(script, server.url).cleanly()


# Two processes that read from one socket take each other's answers.
def test_no_socket_is_shared_with_the_child(own_server: RedisServer) -> None:
    script = """
    before = received(os.getpid())
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        use(1)
        assert received(os.getpid()), "the child has no connections of its own"
        sys.exit(0)
    reap(pid)
    assert received(os.getpid()) == before, "the child wrote to, or closed, its parent's"
    use(2)
    print(len(before) > 0)
    """
    assert run_script(HELPERS + dedent(script), own_server.url).cleanly() == "True\n"


# A lock that a thread of the parent held at the fork is never released in the child.
def test_a_fork_while_threads_of_the_parent_are_in_calls_leaves_both_working(
    server: RedisServer,
) -> None:
    script = """
    done = threading.Event()
    def work(name):
        while not done.is_set():
            assert storage.sync.get_by_id("id-1") == "id-1"
    async def loop():
        while not done.is_set():
            await asyncio.gather(*(storage.get_by_id("id-2") for _ in range(20)))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    threads.append(threading.Thread(target=asyncio.run, args=(loop(),)))
    for thread in threads:
        thread.start()
    for round in range(20):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            use(round)
            os._exit(0)
        reap(pid)
    done.set()
    for thread in threads:
        thread.join()
    use(99)
    print("served")
    """
    assert run_script(HELPERS + dedent(script), server.url).cleanly() == "served\n"


def test_the_child_of_a_child_works(server: RedisServer) -> None:
    script = """
    depth = 0
    while depth < 3 and (pid := os.fork()) == 0:
        signal.alarm(20)
        use(depth)
        depth += 1
    if depth < 3:
        reap(pid)
    use(depth)
    if depth == 0:
        print("served")
    """
    assert run_script(HELPERS + dedent(script), server.url).cleanly() == "served\n"


# Dropped in the child, the parent's connections would wake tasks of a runtime without threads.
def test_a_storage_that_the_child_closes_or_collects_stays_its_parents(
    server: RedisServer,
) -> None:
    script = """
    other = RedisKVStorage("text_chunks", {"redis_url": URL})
    other.sync.upsert({"a": 1})
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        del other
        gc.collect()
        storage.sync.close()
        sys.exit(0)
    reap(pid)
    use(1)
    assert other.sync.get_by_id("a") == 1
    print("served")
    """
    assert run_script(HELPERS + dedent(script), server.url).cleanly() == "served\n"


def test_workers_of_multiprocessing_and_of_a_prefork_server_share_what_was_made_before(
    server: RedisServer,
) -> None:
    script = """
    import multiprocessing
    workers = [multiprocessing.get_context("fork").Process(target=use, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print([worker.exitcode for worker in workers])
    pids = []
    for round in range(4):
        if (pid := os.fork()) == 0:
            signal.alarm(20)
            use(round)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        reap(pid)
    use(5)
    """
    assert run_script(HELPERS + dedent(script), server.url).cleanly() == "[0, 0, 0, 0]\n"


# The child's loop is a new one, whatever the parent was waiting for when it forked.
def test_a_fork_inside_a_coroutine_gives_a_child_that_works(server: RedisServer) -> None:
    script = """
    async def main():
        pending = [asyncio.ensure_future(storage.get_by_id(f"id-{n}")) for n in range(20)]
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            assert storage.sync.get_by_id("id-3") == "id-3"
            thread = threading.Thread(target=use, args=(1,))
            thread.start()
            thread.join()
            os._exit(0)
        assert await asyncio.gather(*pending) == [f"id-{n}" for n in range(20)]
        reap(pid)
    asyncio.run(main())
    use(2)
    print("served")
    """
    assert run_script(HELPERS + dedent(script), server.url).cleanly() == "served\n"
