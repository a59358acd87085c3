"""A small set of reports is replaced by one transaction, whatever becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import Context
from typing import Any

import pytest
import redis

from nano_graphrag_redis import (
    RedisConfig,
    RedisKVStorage,
    StorageOperationError,
    StorageTimeoutError,
)
from nano_graphrag_redis.doctor import examine
from support.proxy import Proxy
from support.servers import RedisServer

from .sets import NEW, OLD, Settings, contents

LEASE = "nano_graphrag:@swap:community_reports:lease"
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
