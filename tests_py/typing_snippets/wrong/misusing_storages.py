from typing import TypedDict

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage


class Document(TypedDict):
    content: str


RedisKVStorage()  # error: call-arg
RedisKVStorage("full_docs")  # error: call-arg
RedisKVStorage("full_docs", {}, True)  # error: call-arg
RedisKVStorage(5, {})  # error: arg-type
RedisKVStorage("full_docs", "redis://localhost")  # error: arg-type
RedisKVStorage(name_space="full_docs", global_config={})  # error: call-arg
SyncRedisKVStorage("full_docs", "redis://localhost")  # error: arg-type
SyncRedisKVStorage("full_docs", url="redis://localhost")  # error: call-arg


async def awaited(docs: RedisKVStorage, typed: RedisKVStorage[Document]) -> None:
    await docs.get("doc-1")  # error: attr-defined
    await docs.get_by_id(5)  # error: arg-type
    await docs.get_by_ids("doc-1", field={"content"})  # error: call-arg
    await docs.upsert([{"content": ""}])  # error: arg-type
    await docs.upsert("doc-1", {"content": ""})  # error: call-arg,arg-type
    docs.all_keys().sort()  # error: attr-defined
    (await docs.filter_keys(["doc-1"])).append("doc-1")  # error: attr-defined
    (await docs.get_stats())["keys"]  # error: typeddict-item
    (await docs.get_stats())["key_count"].lower()  # error: attr-defined
    (await docs.get_stats())["near_cache"]["hits"]  # error: index
    await typed.upsert({"a": {"text": ""}})  # error: typeddict-item,typeddict-unknown-key
    (await typed.get_by_id("doc-1"))["content"]  # error: index
    docs.sync.delete("doc-1")  # error: attr-defined


class Mine(RedisKVStorage):
    async def all_keys(self) -> set[str]:  # error: override
        return set()
