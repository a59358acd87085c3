"""Our own storage as it is after installation: default settings, nothing tuned for this.

Only where local copies are asked for is the near cache on.
"""

from benches.peers import NEAR_MEBIBYTES, OURS
from benches.server import Server
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage


class Ours:
    """The peer."""

    name = OURS
    title = "nano-graphrag-redis"

    async def open(self, server: Server, namespace: str) -> RedisKVStorage:
        return RedisKVStorage(namespace, self._settings(server))

    def open_blocking(self, server: Server, namespace: str) -> SyncRedisKVStorage:
        return SyncRedisKVStorage(namespace, self._settings(server))

    async def open_near(self, server: Server, namespace: str) -> RedisKVStorage:
        return RedisKVStorage(
            namespace, {**self._settings(server), "redis_near_cache_mb": NEAR_MEBIBYTES}
        )

    def _settings(self, server: Server) -> dict[str, object]:
        return {
            "working_dir": str(server.directory),
            "redis_url": server.url,
            "redis_key_prefix": self.name,
        }


PEERS = {Ours.name: Ours()}
