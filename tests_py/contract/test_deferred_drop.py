"""``redis_deferred_drop``: the old reports stay until the insert that dropped them has new ones."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import Context
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import redis

from nano_graphrag_redis import (
    RedisConfig,
    RedisKVStorage,
    StorageError,
    StorageOperationError,
    StorageSerializationError,
    StorageTimeoutError,
)
from nano_graphrag_redis.doctor import examine
from support.proxy import Proxy
from support.scripts import run_script
from support.servers import RedisServer

OLD = {str(number): {"report_string": f"old {number}"} for number in range(5)}
NEW = {str(number): {"report_string": f"new {number}"} for number in range(3, 9)}

Settings = dict[str, Any]


LEASE = "nano_graphrag:@swap:community_reports:lease"


@pytest.fixture(params=[{}, {"redis_registry": True}, {"redis_near_cache_mb": 1}], ids=str)
def settings(request: pytest.FixtureRequest, server: RedisServer) -> Settings:
    return {"redis_url": server.url, "redis_deferred_drop": True, **request.param}


@pytest.fixture
def reports(settings: Settings) -> Iterator[RedisKVStorage]:
    storage = RedisKVStorage("community_reports", settings)
    with closing(storage.sync):
        yield storage


@pytest.fixture
def others(settings: Settings) -> Iterator[RedisKVStorage]:
    """Those of another worker."""
    storage = RedisKVStorage("community_reports", {**settings, "redis_retry_on_timeout": False})
    with closing(storage.sync):
        yield storage


async def contents(storage: RedisKVStorage) -> dict[str, Any]:
    ids = await storage.all_keys()
    return dict(zip(ids, await storage.get_by_ids(ids), strict=True))


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def test_others_read_the_old_reports_until_the_new_ones_are_written(
    reports: RedisKVStorage, others: RedisKVStorage, caplog: pytest.LogCaptureFixture
) -> None:
    async def insert() -> None:
        await reports.drop()
        assert await contents(reports) == {}
        assert await reports.get_by_id("1") is None
        assert await reports.get_by_ids(["1", "2"], ["report_string"]) == [None, None]
        assert await reports.filter_keys(["1", "9"]) == {"1", "9"}
        assert await asyncio.create_task(others_see()) == OLD
        await reports.upsert(NEW)
        assert await contents(reports) == NEW
        await reports.upsert({"9": {"report_string": "later"}})
        await asyncio.gather(reports.index_done_callback())

    async def others_see() -> dict[str, Any]:
        return await contents(others)

    async def main() -> None:
        await reports.upsert(OLD)
        await insert()
        later = {**NEW, "9": {"report_string": "later"}}
        assert await contents(others) == later
        assert await contents(reports) == later

    asyncio.run(main())
    stats = reports.sync.get_stats(light=True)
    assert (stats["key_count"], stats["deferred_drop"]) == (7, {"swaps": 1, "kept": 0})
    assert warned(caplog) == []


def test_an_insert_that_writes_nothing_leaves_the_old_reports(
    reports: RedisKVStorage, caplog: pytest.LogCaptureFixture
) -> None:
    async def insert() -> None:
        await reports.drop()
        # As the host calls it: in a task of its own.
        await asyncio.gather(reports.index_done_callback())
        assert await contents(reports) == OLD

    async def main() -> None:
        await reports.upsert(OLD)
        await insert()
        await reports.upsert({"1": {"report_string": "an ordinary write"}})
        assert len(await contents(reports)) == len(OLD)

    asyncio.run(main())
    assert len(warned(caplog)) == 1
    assert "nothing was written after drop()" in warned(caplog)[0]
    assert reports.sync.get_stats(light=True)["deferred_drop"] == {"swaps": 0, "kept": 1}


def test_a_context_that_ends_without_a_word_leaves_them_too(
    reports: RedisKVStorage, caplog: pytest.LogCaptureFixture
) -> None:
    reports.sync.upsert(OLD)
    asyncio.run(reports.drop())
    assert asyncio.run(contents(reports)) == OLD
    assert "nothing was written after drop()" in caplog.text


def test_an_empty_set_of_new_reports_is_a_new_set(reports: RedisKVStorage) -> None:
    async def main() -> None:
        await reports.upsert(OLD)
        await reports.drop()
        await reports.upsert({})
        await reports.index_done_callback()
        assert await contents(reports) == {}

    asyncio.run(main())


def test_a_refused_value_leaves_the_old_reports_and_no_mark(
    reports: RedisKVStorage, server: RedisServer
) -> None:
    async def main() -> None:
        await reports.upsert(OLD)
        await reports.drop()
        with pytest.raises(StorageSerializationError):
            await reports.upsert({**NEW, "10": {"not": object()}})
        await reports.index_done_callback()
        assert await contents(reports) == OLD

    asyncio.run(main())
    with server.client() as client:
        assert list(client.scan_iter("*@swap*")) == []


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


def test_the_file_of_dual_writing_follows(server: RedisServer, tmp_path: Path) -> None:
    storage = RedisKVStorage(
        "community_reports",
        {
            "redis_url": server.url,
            "redis_deferred_drop": True,
            "redis_dual_write": True,
            "working_dir": str(tmp_path),
        },
    )

    async def insert() -> None:
        await storage.upsert(OLD)
        await storage.drop()
        await storage.upsert(NEW)
        await storage.index_done_callback()
        await storage.close()

    asyncio.run(insert())
    assert json.loads((tmp_path / "kv_store_community_reports.json").read_text()) == NEW


def test_now_deletes_at_once(reports: RedisKVStorage, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        await reports.upsert(OLD)
        await reports.drop()
        await reports.drop(now=True)
        await reports.upsert(NEW)
        await reports.index_done_callback()
        assert await contents(reports) == NEW
        await reports.drop(now=True)

    asyncio.run(main())
    reports.sync.upsert(OLD)
    reports.sync.drop(now=True)
    assert reports.sync.all_keys() == []
    assert warned(caplog) == []


def test_other_namespaces_and_off_drop_at_once(server: RedisServer) -> None:
    for namespace, on in (("full_docs", True), ("community_reports", False)):
        storage = RedisKVStorage(namespace, {"redis_url": server.url, "redis_deferred_drop": on})
        with closing(storage.sync) as docs:
            docs.upsert(OLD)
            docs.drop()
            assert docs.all_keys() == []


@pytest.mark.any_server
def test_off_sends_what_it_always_has(server: RedisServer) -> None:
    storage = RedisKVStorage("community_reports", {"redis_url": server.url})
    with closing(storage.sync) as docs, server.client() as client:
        docs.upsert(OLD)
        client.config_resetstat()
        docs.drop()
        docs.upsert(NEW)
        docs.index_done_callback()
        commands = {name for name in client.info("commandstats") if "config" not in name}
    assert commands == {"cmdstat_scan", "cmdstat_unlink", "cmdstat_set"}


# Keys and JSON of which a set is replaced at once.
WHOLE = 8 << 20


@pytest.mark.any_server
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_up_to_8_mib_of_keys_and_json_are_replaced_at_once(
    server: RedisServer, beyond: int
) -> None:
    settings = {"redis_url": server.url, "redis_deferred_drop": True}
    storage = RedisKVStorage("community_reports", settings)
    with closing(storage.sync) as docs, server.client() as client:
        docs.upsert(OLD)
        prefix = len("nano_graphrag:community_reports:")
        gone = sum(prefix + len(id) for id in OLD)
        new = {f"new {number}": "x" * 500_000 for number in range(16)}
        keys = sum(prefix + len(id) for id in new)
        json_bytes = sum(len(json.dumps(value)) for value in new.values())
        new["new 0"] += "x" * (WHOLE + beyond - gone - keys - json_bytes)
        client.config_resetstat()

        def insert() -> None:
            docs.drop()
            docs.upsert(new)
            docs.index_done_callback()

        Context().run(insert)
        assert sorted(docs.all_keys()) == sorted(new)
        assert docs.get_by_id("new 0") == new["new 0"]
        assert ("cmdstat_exec" in client.info("commandstats")) == (beyond <= 0)


@pytest.mark.any_server
def test_the_server_sees_one_transaction(settings: Settings, server: RedisServer) -> None:
    storage = RedisKVStorage("community_reports", settings)

    def insert() -> None:
        storage.sync.drop()
        storage.sync.upsert(NEW)
        storage.sync.index_done_callback()

    with closing(storage.sync), server.client() as client, server.client() as other:
        storage.sync.upsert(OLD)
        with client.monitor() as monitor:
            Context().run(insert)
            other.echo("end")
            seen = []
            while not (said := monitor.next_command()["command"]).startswith("ECHO"):
                seen.append(said.split()[0])
    begin, end = seen.index("MULTI"), seen.index("EXEC")
    assert (seen.count("MULTI"), seen.count("EXEC")) == (1, 1)
    inside = seen[begin + 1 : end]
    assert inside.count("SET") == len(NEW) + 1  # and that it is done
    assert inside.count("UNLINK") == len(OLD.keys() - NEW.keys()) + 1  # and a mark
    outside = seen[:begin] + seen[end + 1 :]
    assert outside.count("SET") == 2  # the lease, and whose turn it is
    assert outside.count("UNLINK") == 1  # the lease


EXEC = b"$4\r\nEXEC\r\n"
FENCE = "nano_graphrag:@swap:community_reports:turn"


class Interrupted:
    """A replacement of the old set by the new one, which is interrupted before EXEC."""

    def __init__(self, server: RedisServer, settings: Settings, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client = server.client()
        self._settings = {
            **settings,
            "redis_url": proxy.url,
            "redis_socket_timeout": 0.3,
            "redis_operation_timeout": 3.0,
        }

    def run(self, act: Callable[[], object], **more: Any) -> None:
        self.client.config_resetstat()
        self.proxy.interruption = (EXEC, act)
        storage = RedisKVStorage("community_reports", {**self._settings, **more})

        def insert() -> None:
            storage.sync.drop()
            storage.sync.upsert(NEW)
            storage.sync.index_done_callback()

        with closing(storage.sync):
            Context().run(insert)

    def disconnect(self) -> None:
        self.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def lose_all_replies(self) -> None:
        self.proxy.cut_after, self.proxy.cut_for_good = 0, True

    @property
    def executed(self) -> int:
        """Transactions that the server was asked to execute."""
        found = self.client.info("commandstats").get("cmdstat_exec", {"calls": 0})
        return int(found["calls"])


@pytest.fixture
def interrupted(
    server: RedisServer, settings: Settings, reports: RedisKVStorage
) -> Iterator[Interrupted]:
    reports.sync.upsert(OLD)
    with Proxy(server.port) as proxy:
        interrupted = Interrupted(server, settings, proxy)
        yield interrupted
        interrupted.client.close()


@pytest.mark.parametrize("retries", [0, 3])
def test_a_replacement_whose_answer_was_lost_is_not_done_twice(
    interrupted: Interrupted, reports: RedisKVStorage, retries: int
) -> None:
    interrupted.run(interrupted.proxy.deafen, redis_max_retries=retries)
    assert asyncio.run(contents(reports)) == NEW
    assert interrupted.executed == 1


def test_a_replacement_that_did_not_arrive_is_sent_again(
    interrupted: Interrupted, reports: RedisKVStorage
) -> None:
    interrupted.run(interrupted.disconnect)
    assert asyncio.run(contents(reports)) == NEW
    assert interrupted.executed == 1


def test_without_retries_a_replacement_that_may_have_arrived_is_announced(
    interrupted: Interrupted, reports: RedisKVStorage
) -> None:
    with pytest.raises(StorageTimeoutError, match="whether all values were replaced") as caught:
        interrupted.run(interrupted.disconnect, redis_max_retries=0)
    assert set(caught.value.unconfirmed_ids) == NEW.keys()
    assert asyncio.run(contents(reports)) == OLD
    assert interrupted.executed == 0


def test_a_server_that_is_gone_after_it_was_asked_leaves_an_unknown_outcome(
    interrupted: Interrupted, reports: RedisKVStorage
) -> None:
    with pytest.raises(StorageTimeoutError, match="whether all values were replaced") as caught:
        interrupted.run(interrupted.lose_all_replies)
    assert set(caught.value.unconfirmed_ids) == NEW.keys()
    assert asyncio.run(contents(reports)) == NEW


def test_who_was_held_up_cannot_replace_what_came_later(
    interrupted: Interrupted, reports: RedisKVStorage, others: RedisKVStorage
) -> None:
    later = {"later": {"report_string": "of another worker"}}

    def another_replaces_all() -> None:
        # As if the time of the lease had passed.
        interrupted.client.delete("nano_graphrag:@swap:community_reports:lease")
        docs = others.sync
        docs.drop()
        docs.upsert(later)
        docs.index_done_callback()

    with pytest.raises(StorageTimeoutError, match="another process has begun") as caught:
        interrupted.run(another_replaces_all)
    assert set(caught.value.unconfirmed_ids) == NEW.keys()
    assert asyncio.run(contents(reports)) == later


def test_a_server_that_is_full_refuses_all_and_keeps_the_old_set(
    interrupted: Interrupted, reports: RedisKVStorage
) -> None:
    try:
        with pytest.raises(StorageOperationError, match="OOM") as caught:
            interrupted.run(lambda: interrupted.client.config_set("maxmemory", 1))
    finally:
        interrupted.client.config_set("maxmemory", 0)
    assert set(caught.value.unconfirmed_ids) == NEW.keys()
    assert asyncio.run(contents(reports)) == OLD


def test_a_lease_that_is_none_is_named_and_waited_for_by_nobody(
    reports: RedisKVStorage, redis_client: redis.Redis
) -> None:
    redis_client.set(LEASE, "another program's")

    async def insert() -> None:
        await reports.upsert(OLD)
        await reports.drop()
        with pytest.raises(StorageOperationError, match=f"{LEASE} holds no lease"):
            await reports.upsert(NEW)

    asyncio.run(insert())
    assert asyncio.run(contents(reports)) == OLD
    assert redis_client.get(LEASE) == b"another program's"


@pytest.mark.parametrize("settings", [{"redis_compression": "zstd"}], indirect=True, ids=str)
def test_values_of_a_set_are_compressed_and_counted_as_others(
    reports: RedisKVStorage, redis_client: redis.Redis
) -> None:
    long = {"report_string": "the same again and again " * 500}

    def insert() -> None:
        reports.sync.drop()
        reports.sync.upsert({"long": long})
        reports.sync.index_done_callback()

    Context().run(insert)
    assert reports.sync.get_by_id("long") == long
    assert redis_client.strlen("nano_graphrag:community_reports:long") < 2_000
    stats = reports.sync.get_stats(light=True)
    assert stats["stored_bytes_written"] < 2_000 < stats["json_bytes_written"]


@pytest.mark.any_server
def test_a_user_without_transactions_replaces_one_by_one_and_is_told(
    reports: RedisKVStorage,
    settings: Settings,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reports.sync.upsert(OLD)
    redis_client.execute_command(
        "ACL", "SETUSER", "old", "on", ">word", "~*", "&*", "+@all", "-multi"
    )
    try:
        settings = {**settings, "redis_username": "old", "redis_password": "word"}
        found = examine(RedisConfig.from_global_config(settings))
        assert [each.title for each in found if each.check == "rights"] == [
            "this user may not call multi, or the server does not have it"
        ]
        storage = RedisKVStorage("community_reports", settings)

        def insert() -> None:
            storage.sync.drop()
            storage.sync.upsert(NEW)
            storage.sync.index_done_callback()

        with closing(storage.sync):
            Context().run(insert)
        assert "without WATCH, MULTI and EXEC" in caplog.text
        assert asyncio.run(contents(reports)) == NEW
    finally:
        redis_client.execute_command("ACL", "DELUSER", "old")


@pytest.mark.any_server
def test_a_swap_that_was_broken_off_is_found_by_the_doctor(
    reports: RedisKVStorage, server: RedisServer, settings: Settings
) -> None:
    def found() -> list[str]:
        config = RedisConfig.from_global_config(settings)
        return [each.title for each in examine(config) if each.check == "mixed-reports"]

    reports.sync.upsert(OLD)
    assert found() == []
    with server.client() as client:
        client.set("nano_graphrag:@swap:community_reports", "token")
        assert len(found()) == 1
        client.set("nano_graphrag:@swap:community_reports:lease", "token")
        assert found() == []
        client.delete("nano_graphrag:@swap:community_reports:lease")

    async def insert() -> None:
        await reports.drop()
        await reports.upsert(NEW)
        await reports.index_done_callback()

    asyncio.run(insert())
    assert found() == []
