from nano_graphrag_redis import RedisKVStorage, StorageStats, SyncRedisKVStorage


async def awaited(docs: RedisKVStorage[dict[str, str]]) -> None:
    docs.upsert({"doc-1": {"content": ""}})  # error: unused-coroutine | reportUnusedCoroutine
    docs.drop()  # error: unused-coroutine | reportUnusedCoroutine
    docs.get_by_id("doc-1")["content"]  # error: index | reportIndexIssue
    for _ in docs.get_by_ids(["doc-1"]):  # error: attr-defined | reportGeneralTypeIssues
        pass
    with docs:  # error: attr-defined | reportGeneralTypeIssues
        pass
    for value in await docs.get_by_ids(["doc-1"]):
        value["content"]  # error: index | reportOptionalSubscript
    for _ in await docs.get_by_id("doc-1"):  # error: union-attr | reportOptionalIterable
        pass
    await docs.drop(True)  # error: call-arg | reportCallIssue
    await docs.get_stats("light")  # error: arg-type | reportArgumentType
    await docs.upsert({"doc-1": {"content": 5}})  # error: dict-item | reportArgumentType
    await docs.upsert({1: {"content": ""}})  # error: dict-item | reportArgumentType
    docs.sync.check_health().real.lower()  # error: attr-defined | reportAttributeAccessIssue


def counted(stats: StorageStats, blocking: SyncRedisKVStorage[int]) -> None:
    stats["total_redis_memory"] + 1  # error: operator | reportOptionalOperand
    stats["single_flight"]["hits"]  # error: index,typeddict-item | reportGeneralTypeIssues,reportOptionalSubscript
    stats["dual_write"]["logged"]  # error: index | reportOptionalSubscript
    stats["key_count"] = "many"  # error: typeddict-item | reportGeneralTypeIssues
    blocking.upsert({"a": "b"})  # error: dict-item | reportArgumentType
    blocking.get_by_id("a") + 1  # error: operator | reportOptionalOperand
    RedisKVStorage[int, str]  # error: misc | reportInvalidTypeArguments
