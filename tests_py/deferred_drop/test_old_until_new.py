"""``redis_deferred_drop``: the old reports stay until the insert that dropped them has new ones."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import (
    RedisKVStorage,
    StorageSerializationError,
)
from support.servers import RedisServer

from .sets import NEW, OLD, contents, warned


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
