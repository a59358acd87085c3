from typing import TypedDict

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage


class Document(TypedDict):
    content: str


RedisKVStorage()  # error: call-arg | reportCallIssue
RedisKVStorage("full_docs")  # error: call-arg | reportCallIssue
RedisKVStorage("full_docs", {}, True)  # error: call-arg | reportCallIssue
RedisKVStorage(5, {})  # error: arg-type | reportArgumentType
RedisKVStorage("full_docs", "redis://localhost")  # error: arg-type | reportArgumentType
RedisKVStorage(name_space="full_docs", global_config={})  # error: call-arg | reportCallIssue
SyncRedisKVStorage("full_docs", "redis://localhost")  # error: arg-type | reportArgumentType
SyncRedisKVStorage("full_docs", url="redis://localhost")  # error: call-arg | reportCallIssue


async def awaited(docs: RedisKVStorage, typed: RedisKVStorage[Document]) -> None:
    await docs.get("doc-1")  # error: attr-defined | reportAttributeAccessIssue
    await docs.get_by_id(5)  # error: arg-type | reportArgumentType
    await docs.get_by_ids("doc-1", field={"content"})  # error: call-arg | reportCallIssue
    await docs.upsert([{"content": ""}])  # error: arg-type | reportArgumentType
    await docs.upsert("doc-1", {"content": ""})  # error: arg-type,call-arg | reportCallIssue
    docs.all_keys().sort()  # error: attr-defined | reportAttributeAccessIssue
    (await docs.filter_keys(["doc-1"])).append("doc-1")  # error: attr-defined | reportAttributeAccessIssue
    (await docs.get_stats())["keys"]  # error: typeddict-item | reportGeneralTypeIssues
    (await docs.get_stats())["key_count"].lower()  # error: attr-defined | reportAttributeAccessIssue
    (await docs.get_stats())["near_cache"]["hits"]  # error: index | reportOptionalSubscript
    await typed.upsert({"a": {"text": ""}})  # error: typeddict-item,typeddict-unknown-key | reportArgumentType
    (await typed.get_by_id("doc-1"))["content"]  # error: index | reportOptionalSubscript
    docs.sync.delete("doc-1")  # error: attr-defined | reportAttributeAccessIssue


class Mine(RedisKVStorage):
    async def all_keys(self) -> set[str]:  # error: override | reportIncompatibleMethodOverride
        return set()
