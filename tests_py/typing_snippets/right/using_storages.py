import asyncio
from typing import Any, TypedDict

from typing_extensions import assert_type

from nano_graphrag_redis import (
    RedisConfig,
    RedisKVStorage,
    StorageStats,
    SyncRedisKVStorage,
    register,
)


class Document(TypedDict):
    content: str


async def awaited() -> None:
    async with RedisKVStorage("full_docs", {"redis_url": "redis://localhost"}) as docs:
        await docs.upsert({"doc-1": {"content": "Marley was dead"}, "doc-2": [1, None]})
        assert_type(await docs.get_by_id("doc-1"), Any | None)
        assert_type(await docs.get_by_ids(["doc-1"], fields={"content"}), list[Any | None])
        assert_type(await docs.filter_keys(["doc-1"]), set[str])
        assert_type(await docs.all_keys(), list[str])
        assert_type(await docs.delete_by_id("doc-1"), bool)
        assert_type(await docs.delete_by_ids(["doc-1"]), int)
        await docs.drop()
        await docs.index_start_callback()
        await docs.index_done_callback()
        await docs.query_done_callback()
        stats = await docs.get_stats(light=True)
        assert_type(stats, StorageStats)
        assert_type(stats["key_count"], int)
        assert_type(stats["total_redis_memory"], int | None)
        if stats["near_cache"] is not None:
            assert_type(stats["near_cache"]["tracking"], bool)
        if stats["dual_write"] is not None:
            assert_type(stats["dual_write"]["late"], int)
        assert_type(docs.namespace, str)
        assert_type(await docs.check_health(), bool)
        assert_type(docs.sync.get_by_id("doc-1"), Any | None)


async def of_documents(docs: RedisKVStorage[Document]) -> None:
    await docs.upsert({"doc-1": {"content": "Marley was dead"}})
    assert_type(await docs.get_by_id("doc-1"), Document | None)
    assert_type(await docs.get_by_ids(["doc-1"]), list[Document | None])
    assert_type(docs.sync, SyncRedisKVStorage[Document])


class Counted(RedisKVStorage[Document]):
    async def upsert(self, data: dict[str, Document]) -> None:
        await super().upsert(data)


with SyncRedisKVStorage("full_docs", {"redis_url": "redis://localhost"}) as blocking:
    blocking.upsert({"doc-1": {"content": "Marley was dead"}})
    assert_type(blocking.get_by_ids(["doc-1"]), list[Any | None])
    assert_type(blocking.get_stats()["forgiven"], dict[str, int])

typed = SyncRedisKVStorage[Document]("full_docs")
assert_type(typed.get_by_id("doc-1"), Document | None)
from_config = RedisKVStorage("full_docs", global_config={"addon_params": {"redis_workspace": "a"}})
assert_type(RedisConfig.from_env().ttl_for("full_docs"), int)
register()
asyncio.run(awaited())
assert_type(from_config, RedisKVStorage)
