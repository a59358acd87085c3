import os
from pathlib import Path
from typing import Any, Literal

from typing_extensions import assert_type

from nano_graphrag_redis import (
    RedisConfig,
    RedisKVStorage,
    RedisSettings,
    StorageConfigError,
    StorageUnavailableError,
    SyncRedisKVStorage,
    unregister,
)

settings: RedisSettings = {
    "redis_url": "rediss://cache.example:6380/1",
    "redis_tls_ca_file": Path("ca.pem"),
    "redis_max_connections": 10,
    "redis_operation_timeout": 2,
    "redis_ttl": {"llm_response_cache": 3600},
    "redis_ttl_embedding_cache": 60,
    "redis_outage_policy": {"llm_response_cache": "miss", "full_docs": "raise"},
    "redis_shared_namespaces": ["llm_response_cache"],
    "redis_compression": "zstd",
    "redis_durability": "fsync+replicas:1",
}
settings["redis_outage_policy"] = "raise"
docs = RedisKVStorage("full_docs", settings)
nested = RedisKVStorage("full_docs", {"working_dir": "./cache", "addon_params": settings})
blocking = SyncRedisKVStorage("full_docs", settings)
of_host: dict[str, Any] = {"redis_url": "redis://cache.example"}
SyncRedisKVStorage("full_docs", of_host).close()

config = RedisConfig.from_global_config(settings, os.environ)
assert_type(config.redis_max_connections, int)
assert_type(config.redis_operation_timeout, float)
assert_type(config.redis_ttl, dict[str, int])
assert_type(config.redis_compression, Literal["none", "zstd", "lz4"])
assert_type(config.outage_policy_for("full_docs"), str)

try:
    blocking.upsert({"doc-1": {}})
except StorageUnavailableError as error:
    assert_type(error.namespace, str | None)
    assert_type(error.unconfirmed_ids, tuple[str, ...])
except StorageConfigError as error:
    assert_type(error.id, str | None)
unregister()
