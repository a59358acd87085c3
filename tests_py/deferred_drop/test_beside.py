"""What else a process does while a deferred drop replaces its reports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from textwrap import dedent
from typing import Any

import pytest

from nano_graphrag_redis import (
    RedisKVStorage,
    StorageError,
)
from support.scripts import run_script
from support.servers import RedisServer

from .sets import NEW, OLD, contents


def test_writes_beside_the_first_one_are_not_deleted_by_it(reports: RedisKVStorage) -> None:
    async def main() -> None:
        await reports.upsert(OLD)
        await reports.drop()
        await asyncio.gather(*(reports.upsert({id: value}) for id, value in NEW.items()))
        await reports.index_done_callback()
        assert await contents(reports) == NEW

    asyncio.run(main())


def test_nor_are_those_of_threads_and_of_other_event_loops(reports: RedisKVStorage) -> None:
    parts = [{f"{part}-{number}": {"part": part} for number in range(50)} for part in range(6)]

    def of_another_loop(part: dict[str, Any]) -> None:
        asyncio.run(reports.upsert(part))

    async def insert() -> None:
        await reports.drop()
        first, second, *others = parts
        await asyncio.gather(
            reports.upsert(first),
            asyncio.to_thread(reports.sync.upsert, second),
            *(asyncio.to_thread(of_another_loop, part) for part in others),
        )
        await reports.index_done_callback()

    async def main() -> None:
        for _ in range(10):
            await reports.upsert(OLD)
            await asyncio.create_task(insert())
            assert len(await reports.all_keys()) == 300

    asyncio.run(asyncio.wait_for(main(), 60))


@contextmanager
def silent(server: RedisServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def test_a_blocking_write_that_would_wait_for_its_own_thread_is_refused(
    reports: RedisKVStorage, server: RedisServer
) -> None:
    async def main() -> None:
        await reports.upsert(OLD)
        await reports.drop()
        with silent(server):
            first = asyncio.create_task(reports.upsert(NEW))
            await asyncio.sleep(0)
            with pytest.raises(StorageError, match=r"await upsert\(\)") as error:
                reports.sync.upsert({"9": {}})
        assert error.value.namespace == "community_reports"
        await first
        reports.sync.upsert({"9": {}})
        assert await contents(reports) == {**NEW, "9": {}}

    asyncio.run(main())


# The server is silent, so that the first write stays under way.
INTERRUPTED = """
storage = RedisKVStorage("community_reports", {
    "redis_url": URL, "redis_deferred_drop": True, "redis_operation_timeout": 60,
    "redis_socket_timeout": 60,
})
storage.sync.upsert({"old": 1})
storage.sync.drop()
server = int(sys.argv[2])
"""


def interrupted_insert(script: str, server: RedisServer) -> str:
    """What the script printed."""
    try:
        return run_script(
            INTERRUPTED + dedent(script), server.url, server.pid, timeout=40
        ).cleanly()
    finally:
        server.resume()


def test_a_signal_handler_that_writes_meanwhile_is_refused(server: RedisServer) -> None:
    script = """
    def write(*_):
        try:
            storage.sync.upsert({"b": 1})
        except StorageError as error:
            print(error)
        os.kill(server, signal.SIGCONT)
    signal.signal(signal.SIGALRM, write)
    os.kill(server, signal.SIGSTOP)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    storage.sync.upsert({"a": 1})
    assert storage.sync.all_keys() == ["a"]
    """
    assert "this thread" in interrupted_insert(script, server)


def test_a_child_forked_meanwhile_waits_for_nobody(server: RedisServer) -> None:
    script = """
    from contextvars import copy_context
    from nano_graphrag_redis import deferred_drop_context
    os.kill(server, signal.SIGSTOP)
    threading.Thread(target=copy_context().run, args=(storage.sync.upsert, {"a": 1})).start()
    [drop] = deferred_drop_context._of_this_process
    while drop._replacing is None:
        time.sleep(0.01)
    pid = os.fork()
    os.kill(server, signal.SIGCONT)
    if pid == 0:
        storage.sync.upsert({"b": 1})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    interrupted_insert(script, server)


def test_who_is_cancelled_while_another_replaces_holds_up_nobody(
    reports: RedisKVStorage, server: RedisServer
) -> None:
    async def main() -> None:
        await reports.upsert(OLD)
        await reports.drop()
        with silent(server):
            first, second, third = (
                asyncio.create_task(reports.upsert({id: value})) for id, value in [*NEW.items()][:3]
            )
            await asyncio.sleep(0)
            second.cancel()
        await asyncio.gather(first, third)
        assert second.cancelled()
        assert set(await contents(reports)) == {"3", "5"}

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_blocking_storage_defers_as_well(reports: RedisKVStorage) -> None:
    def insert() -> None:
        docs = reports.sync
        docs.upsert(OLD)
        docs.drop()
        assert (docs.all_keys(), docs.get_by_id("1"), docs.filter_keys(["1"])) == ([], None, {"1"})
        assert Context().run(docs.get_by_id, "1") == OLD["1"]
        docs.upsert(NEW)
        docs.index_done_callback()
        ids = docs.all_keys()
        assert dict(zip(ids, docs.get_by_ids(ids), strict=True)) == NEW

    Context().run(insert)
