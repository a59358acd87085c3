"""A server that lost acknowledged writes is found out, though a barrier on it would pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durability.conftest import Open, replicate
from nano_graphrag_redis import DurabilityError, RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageError
from support.conditions import eventually
from support.power import Disk
from support.proxy import Proxy
from support.servers import RedisServer

MANY = {f"doc-{number}": {"number": number} for number in range(200)}


@pytest.fixture
def disk(server_binary: Path, tmp_path: Path) -> Disk:
    return Disk(tmp_path, server_binary)


@pytest.fixture
def server(disk: Disk) -> Iterator[RedisServer]:
    """It syncs its file when the test says so, which is never."""
    with disk.server(appendfsync="no") as running:
        yield running


@pytest.fixture
def lose(disk: Disk, server: RedisServer) -> Callable[[], None]:
    """A power cut that takes all since `keep`, and the return of the server."""

    def cut() -> None:
        assert disk.cut(server) > 0
        server.start()
        server.client().config_set("appendfsync", "always")

    return cut


def keep(server: RedisServer) -> None:
    """Has everything so far on the disk."""
    client = server.client()
    client.config_set("appendfsync", "always")
    client.set("kept", "")
    client.config_set("appendfsync", "no")


def lost_ids(storage: SyncRedisKVStorage) -> set[str]:
    with pytest.raises(DurabilityError, match="restarted or replaced") as error:
        storage.index_done_callback()
    assert (error.value.wanted, error.value.achieved) == ("fsync", "ack")
    return set(error.value.unconfirmed_ids)


def test_lost_writes_are_told_to_everyone_until_they_are_made_good(
    server: RedisServer, open_at: Open, lose: Callable[[], None]
) -> None:
    documents, others = open_at(server, "fsync"), open_at(server, "fsync", "text_chunks")
    documents.upsert({"kept": 1, "overwritten": 1, "deleted": 1})
    keep(server)
    documents.upsert({**MANY, "overwritten": 2})
    documents.delete_by_id("deleted")
    lose()
    for _ in range(3):  # nobody knows who wrote what: each caller is told
        assert lost_ids(documents) == {*MANY, "overwritten", "deleted"}
    others.index_done_callback()
    documents.upsert({**MANY, "overwritten": 2})
    assert lost_ids(documents) == {"deleted"}
    documents.delete_by_id("deleted")
    documents.index_done_callback()


def test_a_loss_is_told_no_more_once_another_has_changed_the_id(
    server: RedisServer, open_at: Open, lose: Callable[[], None]
) -> None:
    documents = open_at(server, "fsync")
    keep(server)
    documents.upsert({"written": 1, "missing": 1})
    lose()
    for _ in range(2):
        assert lost_ids(documents) == {"written", "missing"}
    server.client().set("nano_graphrag:full_docs:written", b"2")
    assert lost_ids(documents) == {"missing"}
    server.client().set("nano_graphrag:full_docs:missing", b"2")
    documents.index_done_callback()
    server.client().set("nano_graphrag:full_docs:missing", b"3")
    documents.index_done_callback()


# A connection that broke says nothing of a restart.
def test_a_server_that_may_not_be_asked_who_it_is_is_not_said_to_be_another(
    kept: RedisServer, open_at: Open
) -> None:
    documents = open_at(kept, "replicas:1", **may_ask_nothing(kept))
    documents.upsert({"0": 1})
    documents.index_done_callback()
    documents.upsert({"shared": 1})
    kept.client().set("nano_graphrag:full_docs:shared", b"2")
    break_connections(kept)
    may_be = (
        "may have been restarted or replaced, which INFO would tell, and does not show 1 writes"
    )
    for _ in range(2):
        with pytest.raises(DurabilityError, match=may_be) as error:
            documents.index_done_callback()
        assert error.value.unconfirmed_ids == ("shared",)
    kept.client().set("nano_graphrag:full_docs:shared", b"3")
    documents.index_done_callback()


def test_a_lost_drop_is_reported_once_to_each_storage_and_can_be_done_again(
    server: RedisServer, open_at: Open, lose: Callable[[], None]
) -> None:
    reports = open_at(server, "fsync", "community_reports")
    others = open_at(server, "fsync", "community_reports")
    reports.upsert({"0": {}, "1": {}})
    assert others.get_by_id("0") == {}
    keep(server)
    reports.drop()
    lose()
    for storage in (reports, others):
        with pytest.raises(DurabilityError, match=r"this process has dropped.*'?[01]'?") as error:
            storage.index_done_callback()
        assert error.value.unconfirmed_ids == ()
        storage.index_done_callback()
    assert sorted(reports.all_keys()) == ["0", "1"]
    reports.drop()
    reports.index_done_callback()
    assert reports.all_keys() == []


# Half of a drop may be of the server before, and lost with it.
def test_a_drop_that_a_crash_divides_is_looked_at_to_its_end(
    server: RedisServer, open_at: Open, lose: Callable[[], None]
) -> None:
    with Proxy(server.port) as proxy:
        reports = open_at(
            server, "fsync", "community_reports", redis_url=proxy.url, redis_max_retries=20
        )
        reports.upsert({str(number): {} for number in range(3_000)})  # several pages of SCAN
        keep(server)
        pages = 0

        def cut() -> None:
            nonlocal pages
            pages += 1
            if pages < 3:
                proxy.interruption = (b"UNLINK", cut)
            else:
                lose()

        proxy.interruption = (b"UNLINK", cut)
        reports.drop()
        assert pages == 3
        with pytest.raises(DurabilityError, match="this process has dropped"):
            reports.index_done_callback()


def test_a_crash_that_lost_nothing_is_not_noticed(server: RedisServer, open_at: Open) -> None:
    documents = open_at(server, "fsync")
    documents.upsert(MANY)
    documents.delete_by_id("doc-7")
    server.restart()
    server.client().config_set("appendfsync", "always")
    documents.index_done_callback()
    assert documents.get_by_id("doc-8") == {"number": 8}


LEVELS = ["fsync", "snapshot", "replicas:1"]


@pytest.fixture
def kept(server_binary: Path) -> Iterator[RedisServer]:
    """A server that fulfils every level."""
    with (
        RedisServer(server_binary, appendonly="yes", appendfsync="always") as primary,
        RedisServer(server_binary, appendonly="yes", appendfsync="always") as replica,
    ):
        replicate(primary, replica)
        yield primary


def break_connections(server: RedisServer) -> None:
    """Breaks the barrier's connection and every other; the server runs on."""
    assert server.client().client_kill_filter(_type="normal", skipme=True) > 0


def may_ask_nothing(server: RedisServer) -> dict[str, Any]:
    """The settings of a user who may not ask which server answers."""
    server.client().execute_command("ACL", "SETUSER", "ann", "on", "nopass", "~*", "+@all", "-info")
    return {"redis_username": "ann", "redis_password": "any"}


@pytest.mark.parametrize("informed", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_a_drop_on_a_server_that_lost_nothing_is_no_error(
    kept: RedisServer, open_at: Open, level: str, informed: bool
) -> None:
    settings = {} if informed or level != "replicas:1" else may_ask_nothing(kept)
    reports = open_at(kept, level, "community_reports", redis_durability_timeout=20, **settings)
    for number in range(4):  # the first of them before there was any barrier
        reports.drop()
        if number > 1:
            reports.upsert({"0": {"number": number}})
        if number % 2:
            break_connections(kept)
        reports.index_done_callback()


@pytest.mark.parametrize("level", ["fsync", "snapshot"])
def test_a_drop_and_the_writes_after_it_outlive_a_restart(
    kept: RedisServer, open_at: Open, level: str
) -> None:
    reports = open_at(kept, level, "community_reports", redis_durability_timeout=20)
    reports.upsert({"0": 1, "1": 1})
    reports.drop()
    reports.upsert({"0": 2})
    reports.delete_by_id("1")
    with kept.client() as client:
        eventually(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
        client.save()
    kept.restart()
    reports.index_done_callback()
    assert reports.all_keys() == ["0"]


# Of a server that is the same nothing needs to be looked at, and what others write is no loss.
def test_what_another_process_writes_is_not_called_lost(kept: RedisServer, open_at: Open) -> None:
    documents = open_at(kept, "fsync")
    documents.upsert({"0": 1})
    documents.index_done_callback()
    documents.drop()
    documents.upsert({"shared": 1})
    kept.client().mset(
        {"nano_graphrag:full_docs:shared": b"2", "nano_graphrag:full_docs:theirs": b"2"}
    )
    break_connections(kept)
    documents.index_done_callback()


# It follows another server for a while and takes over again, all the time on the same connection.
def test_a_primary_that_lost_writes_while_it_was_a_replica_is_found_out(
    server_binary: Path, open_at: Open
) -> None:
    with RedisServer(server_binary) as primary, RedisServer(server_binary) as other:
        documents = open_at(primary, "snapshot", redis_durability_timeout=20)
        documents.upsert({"0": 1})
        documents.index_done_callback()
        replicate(primary, other)
        other.client().replicaof("NO", "ONE")
        documents.upsert({"1": 1})  # which the other does not have
        replicate(other, primary)
        primary.client().replicaof("NO", "ONE")
        with pytest.raises(DurabilityError) as error:
            documents.index_done_callback()
        assert error.value.unconfirmed_ids == ("1",)


def swallow_from(proxy: Proxy, command: bytes) -> None:
    """Has the server's answers swallowed from the first of these commands on."""

    def swallow() -> None:
        proxy.blackhole = True

    proxy.interruption = (command, swallow)


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


@pytest.mark.parametrize("change", ["delete_by_ids", "drop"])
def test_what_was_deleted_and_never_confirmed_is_not_called_lost(
    server: RedisServer, proxy: Proxy, open_at: Open, change: str
) -> None:
    server.client().config_set("appendfsync", "always")
    documents = open_at(
        server, "fsync", redis_url=proxy.url, redis_max_retries=0, redis_operation_timeout=1
    )
    documents.upsert(MANY)
    swallow_from(proxy, b"UNLINK")
    arguments = [list(MANY)] if change == "delete_by_ids" else []
    with pytest.raises(StorageError):
        getattr(documents, change)(*arguments)
    proxy.blackhole = False
    eventually(lambda: server.client().keys("nano_graphrag:full_docs:*") == [])
    server.restart()
    server.client().config_set("appendfsync", "always")
    documents.index_done_callback()


def test_what_a_barrier_has_passed_is_not_looked_for_again(
    server: RedisServer, open_at: Open
) -> None:
    server.client().config_set("appendfsync", "always")
    documents = open_at(server, "fsync")
    documents.upsert({"doc-1": 1})
    documents.index_done_callback()
    server.client().set("nano_graphrag:full_docs:doc-1", b"2")  # by someone else
    server.restart()
    server.client().config_set("appendfsync", "always")
    documents.upsert({"doc-2": 2})
    documents.index_done_callback()


def test_a_replica_that_took_over_without_the_writes_is_found_out(
    server_binary: Path, open_at: Open
) -> None:
    with RedisServer(server_binary, appendonly="no") as primary:
        documents = open_at(primary, "snapshot")
        documents.upsert({"doc-1": 1, "doc-2": 2})
        primary.restart()  # without persistence: what answers at this address has neither
        primary.client().set("nano_graphrag:full_docs:doc-1", b"1")
        with pytest.raises(DurabilityError) as error:
            documents.index_done_callback()
        assert error.value.unconfirmed_ids == ("doc-2",)


# The answer of a server that is gone by then lies unread while the loop is kept by other work, and
# a barrier has a connection to its successor before anyone knows of the write.
def test_a_write_whose_answer_is_read_late_is_not_vouched_for_by_a_later_connection(
    server: RedisServer, lose: Callable[[], None]
) -> None:
    config = {"redis_url": server.url, "redis_durability": "fsync", "redis_max_retries": 10}

    async def main() -> None:
        async with RedisKVStorage("full_docs", config) as documents:
            await documents.upsert({"early": 1})
            keep(server)
            late = asyncio.ensure_future(documents.upsert({"late": 1}))
            await asyncio.sleep(0)
            client = server.client()
            deadline = time.monotonic() + 10
            # Blocks the loop on purpose: it has sent the write and does not read the answer.
            await asyncio.sleep(0)
            while not client.exists("nano_graphrag:full_docs:late"):
                assert time.monotonic() < deadline
            lose()
            documents.sync.index_done_callback()  # over a connection to the new server
            await late
            with pytest.raises(DurabilityError) as error:
                await documents.index_done_callback()
            assert error.value.unconfirmed_ids == ("late",)

    asyncio.run(main())
