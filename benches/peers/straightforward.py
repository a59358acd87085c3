"""redis-py, hiredis and json, as an average engineer writes it: one command per id, pipelined."""

import json
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio

from benches.peers import TTL
from benches.server import MAX_CLIENTS, Server


class StraightforwardStorage:
    """A client of its own for each namespace, a pool for each client."""

    def __init__(self, pool: redis.asyncio.ConnectionPool, prefix: str, ttl: int | None) -> None:
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._prefix = prefix
        self._ttl = ttl

    async def get_by_id(self, id: str) -> Any:
        text = await self._redis.get(self._prefix + id)
        return None if text is None else json.loads(text)

    async def get_by_ids(self, ids: list[str]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.get(self._prefix + id)
            texts = await pipe.execute()
        return [None if text is None else json.loads(text) for text in texts]

    async def filter_keys(self, data: list[str]) -> set[str]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in data:
                pipe.exists(self._prefix + id)
            found = await pipe.execute()
        return {id for id, exists in zip(data, found, strict=True) if not exists}

    async def upsert(self, data: dict[str, Any]) -> None:
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
class PoolSize:
    """How many sockets a client may open, and whether callers beyond that wait or fail."""

    name: str
    connections: int
    pool: type[redis.asyncio.ConnectionPool]


# redis-py gives up after 5 seconds, which 10,000 callers with a socket each need to connect.
PATIENCE = {"socket_timeout": 60.0, "socket_connect_timeout": 60.0}

# Which of the two is faster depends on the machine and the call, so the report takes the better.
CONNECTION_PER_CALLER = PoolSize("a socket per caller", MAX_CLIENTS, redis.asyncio.ConnectionPool)
QUEUE_FOR_64 = PoolSize("64 sockets", 64, redis.asyncio.BlockingConnectionPool)


@dataclass(frozen=True)
class Straightforward:
    """The peer, with one of the two pool sizes."""

    size: PoolSize

    @property
    def name(self) -> str:
        return "straightforward" if self.size is CONNECTION_PER_CALLER else "straightforward-64"

    @property
    def title(self) -> str:
        return f"redis-py + json, {self.size.name}"

    async def open(self, server: Server, namespace: str) -> StraightforwardStorage:
        size = self.size.connections
        pool = self.size.pool.from_url(server.url, max_connections=size, **PATIENCE)
        return StraightforwardStorage(pool, f"{self.name}:{namespace}:", TTL.get(namespace))

    def open_blocking(self, server: Server, namespace: str) -> StraightforwardReader:
        return StraightforwardReader(redis.Redis.from_url(server.url), f"{self.name}:{namespace}:")


PEERS = {peer.name: peer for peer in map(Straightforward, (CONNECTION_PER_CALLER, QUEUE_FOR_64))}
