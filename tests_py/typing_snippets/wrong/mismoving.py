from pathlib import Path

from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage, doctor, migration

config = RedisConfig.from_env()
migration.plan(Path("cache"), config, namespace="full_docs")  # error: call-arg | reportCallIssue
migration.plan(Path("cache"), config, ttl="1h")  # error: arg-type | reportArgumentType
plan = migration.plan(Path("cache"), config)
migration.migrate(Path("cache"))  # error: arg-type | reportArgumentType
migration.migrate(plan, dryrun=True)  # error: call-arg | reportCallIssue
migration.migrate(plan).written()  # error: operator | reportCallIssue
migration.export("out", config, overwrite=True)  # error: call-arg | reportCallIssue
migration.verify(Path("cache"), config, progress=5)  # error: arg-type | reportArgumentType
migration.verify(Path("cache"), config).differences  # error: attr-defined | reportAttributeAccessIssue
for finding in doctor.examine(config):
    finding.fix  # error: attr-defined | reportAttributeAccessIssue


async def awaited(blocking: SyncRedisKVStorage) -> None:
    await blocking.upsert({"a": 1})  # error: func-returns-value,misc | reportGeneralTypeIssues
    await blocking.get_stats()  # error: misc | reportGeneralTypeIssues
    async with blocking:  # error: attr-defined | reportGeneralTypeIssues
        pass
