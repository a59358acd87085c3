from nano_graphrag_redis import RedisConfig, RedisKVStorage, RedisSettings, StorageError, SyncRedisKVStorage, register
from nano_graphrag_redis import RedisStorage as Storage  # error: attr-defined | reportAttributeAccessIssue,reportUnusedImport

host: RedisSettings = {"redis_host": "localhost"}  # error: typeddict-unknown-key | reportAssignmentType
typo: RedisSettings = {"redis_workspce": "acme"}  # error: typeddict-unknown-key | reportAssignmentType
url: RedisSettings = {"redis_url": None}  # error: typeddict-item | reportAssignmentType
many: RedisSettings = {"redis_max_connections": "10"}  # error: typeddict-item | reportAssignmentType
flag: RedisSettings = {"redis_registry": "yes"}  # error: typeddict-item | reportAssignmentType
ttl: RedisSettings = {"redis_ttl": 60}  # error: typeddict-item | reportAssignmentType
ttls: RedisSettings = {"redis_ttl": {"full_docs": "1h"}}  # error: dict-item | reportAssignmentType
policy: RedisSettings = {"redis_outage_policy": "ignore"}  # error: typeddict-item | reportAssignmentType
policies: RedisSettings = {"redis_outage_policy": {"full_docs": "ignore"}}  # error: dict-item | reportAssignmentType
codec: RedisSettings = {"redis_compression": "gzip"}  # error: typeddict-item | reportAssignmentType
flight: RedisSettings = {"redis_single_flight": True}  # error: typeddict-item | reportAssignmentType
url["redis_database"] = 1  # error: typeddict-unknown-key | reportGeneralTypeIssues
RedisKVStorage("full_docs", [("redis_url", "redis://localhost")])  # error: arg-type | reportArgumentType
SyncRedisKVStorage(namespace="full_docs", settings={})  # error: call-arg | reportCallIssue
RedisConfig.from_env("redis://localhost")  # error: arg-type | reportArgumentType
RedisConfig.from_env().redis_url_typo  # error: attr-defined | reportAttributeAccessIssue
RedisConfig.from_env().ttl_for(5)  # error: arg-type | reportArgumentType
register("redis")  # error: call-arg | reportCallIssue
try:
    SyncRedisKVStorage("full_docs").get_by_id("a")
except StorageError as error:
    print(error.ids)  # error: attr-defined | reportAttributeAccessIssue
    print(error.id.upper())  # error: union-attr | reportOptionalMemberAccess
