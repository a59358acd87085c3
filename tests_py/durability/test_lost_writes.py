"""A server that lost acknowledged writes is found out, though a barrier on it would pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durability.conftest import Open
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


def test_a_drop_that_was_lost_is_told_until_it_is_done_again(
    server: RedisServer, open_at: Open, lose: Callable[[], None]
) -> None:
    reports = open_at(server, "fsync", "community_reports")
    reports.upsert({"0": {}, "1": {}})
    keep(server)
    reports.drop()
    lose()
    with pytest.raises(DurabilityError, match="a drop"):
        reports.index_done_callback()
    reports.drop()
    reports.index_done_callback()
    assert reports.all_keys() == []


def test_a_crash_that_lost_nothing_is_not_noticed(server: RedisServer, open_at: Open) -> None:
    documents = open_at(server, "fsync")
    documents.upsert(MANY)
    documents.delete_by_id("doc-7")
    server.restart()
    server.client().config_set("appendfsync", "always")
    documents.index_done_callback()
    assert documents.get_by_id("doc-8") == {"number": 8}


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
