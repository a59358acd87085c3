"""redis-py, hiredis and json, as an average engineer writes it: one command per id, pipelined."""

import json
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio

from benches.peers import TTL
from benches.peers.pools import CONNECTION_PER_CALLER, POOL_SIZES, PoolSize
from benches.server import Server


class StraightforwardStorage:
    """A client of its own for each namespace, a pool for each client."""

    def __init__(self, pool: redis.asyncio.ConnectionPool, prefix: str, ttl: int | None) -> None:
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._prefix = prefix
        self._ttl = ttl

    async def get_by_id(self, id: str) -> Any:
        text = await self._redis.get(self._prefix + id)
        return None if text is None else json.loads(text)

    async def get_by_ids(self, ids: list[str], fields: set[str] | None = None) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.get(self._prefix + id)
            texts = await pipe.execute()
        values = [None if text is None else json.loads(text) for text in texts]
        if fields is None:
            return values
        return [value and {k: v for k, v in value.items() if k in fields} for value in values]

    async def filter_keys(self, data: list[str]) -> set[str]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in data:
                pipe.exists(self._prefix + id)
            found = await pipe.execute()
        return {id for id, exists in zip(data, found, strict=True) if not exists}

    async def upsert(self, data: dict[str, Any]) -> None:
        if len(data) == 1:
            ((id, value),) = data.items()
            await self._redis.set(self._prefix + id, json.dumps(value), ex=self._ttl)
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for id, value in data.items():
                pipe.set(self._prefix + id, json.dumps(value), ex=self._ttl)
            await pipe.execute()

    async def index_done_callback(self) -> None:
        """Every write was awaited: nothing is left to do, least of all a BGSAVE."""

    async def close(self) -> None:
        await self._redis.aclose()


class StraightforwardReader:
    """The same for callers without an event loop."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix

    def get_by_id(self, id: str) -> Any:
        text = self._redis.get(self._prefix + id)
        return None if text is None else json.loads(text)

    def close(self) -> None:
        self._redis.close()


@dataclass(frozen=True)
class Straightforward:
    """The peer, with one of the two pool sizes."""

    size: PoolSize

    @property
    def name(self) -> str:
        return f"straightforward{self.size.suffix}"

    @property
    def title(self) -> str:
        return f"redis-py + json, {self.size.title}"

    async def open(self, server: Server, namespace: str) -> StraightforwardStorage:
        pool = self.size.pool(server)
        return StraightforwardStorage(pool, f"{self.name}:{namespace}:", TTL.get(namespace))

    def open_blocking(self, server: Server, namespace: str) -> StraightforwardReader | None:
        if self.size is not CONNECTION_PER_CALLER:
            return None  # it would be the same client once more
        return StraightforwardReader(redis.Redis.from_url(server.url), f"{self.name}:{namespace}:")


PEERS = {peer.name: peer for peer in map(Straightforward, POOL_SIZES)}
