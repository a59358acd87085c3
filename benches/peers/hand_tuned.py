"""redis-py, hiredis and orjson in an expert's hands: MGET, MSET, large pieces."""

from dataclasses import dataclass
from typing import Any

import orjson
import redis
import redis.asyncio

from benches.peers import TTL
from benches.peers.pools import CONNECTION_PER_CALLER, POOL_SIZES, PoolSize
from benches.server import Server

# Keys in one MGET or MSET. Of 32, 64, 128, 256, 512 and 1,000, tried in turn on 1,000 chunks, 256
# and 512 were the fastest, level with each other.
PIECE = 256


class HandTunedStorage:
    """A client of its own for each namespace; callers queue for its sockets."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str, ttl: int | None) -> None:
        self._redis = client
        self._prefix = prefix
        self._ttl = ttl

    async def get_by_id(self, id: str) -> Any:
        text = await self._redis.get(self._prefix + id)
        return None if text is None else orjson.loads(text)

    async def get_by_ids(self, ids: list[str], fields: set[str] | None = None) -> list[Any]:
        keys = [self._prefix + id for id in ids]
        values: list[Any] = []
        for start in range(0, len(keys), PIECE):
            texts = await self._redis.mget(keys[start : start + PIECE])
            values += [None if text is None else orjson.loads(text) for text in texts]
        if fields is None:
            return values
        return [value and {k: value[k] for k in fields if k in value} for value in values]

    async def filter_keys(self, data: list[str]) -> set[str]:
        pipe = self._redis.pipeline(transaction=False)
        for id in data:
            # What `pipe.exists` ends in, without the layers above it.
            pipe.execute_command("EXISTS", self._prefix + id)
        found = await pipe.execute()
        return {id for id, exists in zip(data, found, strict=True) if not exists}

    async def upsert(self, data: dict[str, Any]) -> None:
        if len(data) == 1:
            ((id, value),) = data.items()
            await self._redis.set(self._prefix + id, orjson.dumps(value), ex=self._ttl)
        elif self._ttl:
            pipe = self._redis.pipeline(transaction=False)
            for id, value in data.items():  # MSET knows no TTL
                pipe.set(self._prefix + id, orjson.dumps(value), ex=self._ttl)
            await pipe.execute()
        else:
            items = list(data.items())
            for start in range(0, len(items), PIECE):
                piece = items[start : start + PIECE]
                await self._redis.mset({self._prefix + id: orjson.dumps(v) for id, v in piece})

    async def index_done_callback(self) -> None:
        """Every write was awaited: nothing is left to do."""

    async def close(self) -> None:
        await self._redis.aclose()


class HandTunedReader:
    """The same for callers without an event loop."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix

    def get_by_id(self, id: str) -> Any:
        text = self._redis.get(self._prefix + id)
        return None if text is None else orjson.loads(text)

    def close(self) -> None:
        self._redis.close()


@dataclass(frozen=True)
class HandTuned:
    """The peer, with one of the two pool sizes; blocking, a pool or one socket of its own."""

    size: PoolSize

    @property
    def name(self) -> str:
        return f"hand-tuned{self.size.suffix}"

    @property
    def title(self) -> str:
        return f"redis-py + orjson, hand-tuned, {self.size.title}"

    async def open(self, server: Server, namespace: str) -> HandTunedStorage:
        client = redis.asyncio.Redis.from_pool(self.size.pool(server))
        return HandTunedStorage(client, f"{self.name}:{namespace}:", TTL.get(namespace))

    def open_blocking(self, server: Server, namespace: str) -> HandTunedReader:
        alone = self.size is not CONNECTION_PER_CALLER
        client = redis.Redis.from_url(server.url, single_connection_client=alone)
        return HandTunedReader(client, f"{self.name}:{namespace}:")


PEERS = {peer.name: peer for peer in map(HandTuned, POOL_SIZES)}
