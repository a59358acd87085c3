"""The outage policy ``json``: while the server is away, reads come from the files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from migration.conftest import WriteFile
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import CircuitOpenError, StorageUnavailableError
from support.conditions import eventually
from support.servers import RedisServer


@pytest.fixture
def docs(own_server: RedisServer, working_dir: Path) -> Iterator[SyncRedisKVStorage]:
    with SyncRedisKVStorage("full_docs", settings_of(own_server, working_dir)) as storage:
        yield storage


def settings_of(server: RedisServer, working_dir: Path, **more: Any) -> dict[str, Any]:
    return {
        "redis_url": server.url,
        "working_dir": str(working_dir),
        "redis_dual_write": True,
        "redis_outage_policy": "json",
        "redis_operation_timeout": 0.5,
        "redis_max_retries": 0,
        "redis_breaker_failures": 2,
        **more,
    }


def open_the_breaker(server: RedisServer, storage: SyncRedisKVStorage) -> None:
    server.kill()
    for _ in range(2):
        with suppress(StorageUnavailableError):
            storage.get_by_id("a")


def test_reads_come_from_the_file_and_the_log(
    own_server: RedisServer, docs: SyncRedisKVStorage, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": {"content": "\u00e9", "n": 1.5}, "b": 2, "gone": 0})
    docs.upsert({"b": {"content": "Marley"}, "c": 3})
    docs.delete_by_id("gone")
    open_the_breaker(own_server, docs)
    assert docs.get_by_id("a") == {"content": "\u00e9", "n": 1.5}
    assert docs.get_by_ids(["c", "none", "b", "gone"]) == [3, None, {"content": "Marley"}, None]
    assert docs.get_by_ids(["b"], fields={"content"}) == [{"content": "Marley"}]
    assert docs.filter_keys(["a", "none", "gone"]) == {"none", "gone"}
    assert sorted(docs.all_keys()) == ["a", "b", "c"]


def test_writes_deletes_and_drop_raise(
    own_server: RedisServer, docs: SyncRedisKVStorage, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1})
    open_the_breaker(own_server, docs)
    with pytest.raises(StorageUnavailableError):
        docs.upsert({"a": 2})
    with pytest.raises(StorageUnavailableError):
        docs.delete_by_id("a")
    with pytest.raises(StorageUnavailableError):
        docs.delete_by_ids(["a"])
    with pytest.raises(StorageUnavailableError):
        docs.drop()
    assert docs.get_by_id("a") == 1


def test_the_server_is_read_again_as_soon_as_it_is_back(
    own_server: RedisServer,
    docs: SyncRedisKVStorage,
    write_file: WriteFile,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_file("full_docs", {"a": 1})
    open_the_breaker(own_server, docs)
    for _ in range(5):
        assert docs.get_by_id("a") == 1
    own_server.start()
    eventually(docs.check_health)
    assert docs.get_by_id("a") is None
    served = docs.get_stats(light=True)["served_from_files"]
    assert served is not None
    assert served >= 5
    told = [
        record.getMessage()
        for record in caplog.records
        if record.event.startswith("outage")  # type: ignore[attr-defined]  # the breaker has its own
    ]
    assert len(told) == 2, told
    assert "full_docs: reads come from the JSON files" in told[0]
    assert "is back" in told[1]


def test_what_another_process_logs_or_folds_meanwhile_is_seen(
    own_server: RedisServer, docs: SyncRedisKVStorage, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1})
    open_the_breaker(own_server, docs)
    assert docs.get_by_id("a") == 1
    with (working_dir / "kv_store_full_docs.changes").open("a") as log:
        log.write('["set","a",2]\n')
    assert docs.get_by_id("a") == 2
    write_file("full_docs", {"b": 3})
    assert docs.get_by_ids(["a", "b"]) == [2, 3]


def test_without_any_file_the_error_stays(
    own_server: RedisServer, docs: SyncRedisKVStorage
) -> None:
    open_the_breaker(own_server, docs)
    with pytest.raises(CircuitOpenError):
        docs.get_by_id("a")
    with pytest.raises(CircuitOpenError):
        docs.all_keys()


def test_awaited_reads_with_a_near_cache_come_from_the_files_too(
    own_server: RedisServer, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {str(n): n for n in range(200)})

    async def read() -> None:
        settings = settings_of(own_server, working_dir, redis_near_cache_mb=1)
        async with RedisKVStorage("full_docs", settings) as docs:
            await docs.upsert({"x": 1})
            own_server.kill()
            for _ in range(2):
                with suppress(StorageUnavailableError):
                    await docs.get_by_id("0")
            found = await asyncio.gather(*(docs.get_by_id(str(n)) for n in range(200)))
            assert found == list(range(200))
            assert await docs.get_by_ids(["x", "7"]) == [1, 7]

    asyncio.run(read())


def test_the_llm_cache_may_miss_while_documents_come_from_files(
    own_server: RedisServer, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1})
    settings = settings_of(own_server, working_dir, redis_outage_policy={"full_docs": "json"})
    with (
        SyncRedisKVStorage("full_docs", settings) as docs,
        SyncRedisKVStorage("llm_response_cache", settings) as cache,
    ):
        open_the_breaker(own_server, docs)
        assert (docs.get_by_id("a"), cache.get_by_id("a")) == (1, None)
