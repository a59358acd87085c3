"""valkey-glide and orjson: another client with a Rust core, in an expert's hands."""

from typing import Any

import glide_sync
import orjson
from glide import (
    Batch,
    ClientSideCache,
    ExpirySet,
    ExpiryType,
    GlideClient,
    GlideClientConfiguration,
    NodeAddress,
)

from benches.peers import NEAR_MEBIBYTES, TTL
from benches.server import MAX_CLIENTS, Server

# Keys in one MGET or MSET. Of 32, 64, 128, 256, 512 and 1,000, tried in turn on 1,000 chunks, 256
# and 512 were the fastest, level with each other.
PIECE = 256
NEAR_KIBIBYTES = NEAR_MEBIBYTES * 1024
TIMEOUT = 30_000  # milliseconds; its default of 250 is too short for a large batch


class GlideStorage:
    """A client of its own for each namespace, which is one multiplexed socket."""

    def __init__(self, client: GlideClient, prefix: str, ttl: int | None) -> None:
        self._client = client
        self._prefix = prefix
        self._expiry = ExpirySet(ExpiryType.SEC, ttl) if ttl else None

    async def get_by_id(self, id: str) -> Any:
        text = await self._client.get(self._prefix + id)
        return None if text is None else orjson.loads(text)

    async def get_by_ids(self, ids: list[str], fields: set[str] | None = None) -> list[Any]:
        keys: list[str | bytes | bytearray | memoryview] = [self._prefix + id for id in ids]
        values: list[Any] = []
        for start in range(0, len(keys), PIECE):
            texts = await self._client.mget(keys[start : start + PIECE])
            values += [None if text is None else orjson.loads(text) for text in texts]
        if fields is None:
            return values
        return [value and {k: value[k] for k in fields if k in value} for value in values]

    async def filter_keys(self, data: list[str]) -> set[str]:
        batch = Batch(is_atomic=False)
        for id in data:
            batch.exists([self._prefix + id])
        found = await self._client.exec(batch, raise_on_error=True)
        return {id for id, exists in zip(data, found or [], strict=True) if not exists}

    async def upsert(self, data: dict[str, Any]) -> None:
        if len(data) == 1:
            ((id, value),) = data.items()
            await self._client.set(self._prefix + id, orjson.dumps(value), expiry=self._expiry)
        elif self._expiry:
            batch = Batch(is_atomic=False)
            for id, value in data.items():  # MSET knows no TTL
                batch.set(self._prefix + id, orjson.dumps(value), expiry=self._expiry)
            await self._client.exec(batch, raise_on_error=True)
        else:
            items = list(data.items())
            for start in range(0, len(items), PIECE):
                piece = items[start : start + PIECE]
                await self._client.mset({self._prefix + id: orjson.dumps(v) for id, v in piece})

    async def index_done_callback(self) -> None:
        """Every write was awaited: nothing is left to do."""

    async def close(self) -> None:
        await self._client.close()


class GlideReader:
    """The same for callers without an event loop, by its blocking distribution."""

    def __init__(self, client: glide_sync.GlideClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def get_by_id(self, id: str) -> Any:
        text = self._client.get(self._prefix + id)
        return None if text is None else orjson.loads(text)

    def close(self) -> None:
        self._client.close()


class Glide:
    """The peer."""

    name = "glide"
    title = "valkey-glide + orjson"

    async def open(self, server: Server, namespace: str) -> GlideStorage:
        return await self._open(server, namespace, None)

    async def open_near(self, server: Server, namespace: str) -> GlideStorage:
        """With its own cache, kept right by the server as ours is, and as large."""
        cache = ClientSideCache.create(NEAR_KIBIBYTES, entry_ttl_ms=0, server_assisted=True)
        return await self._open(server, namespace, cache)

    def open_blocking(self, server: Server, namespace: str) -> GlideReader:
        configuration = glide_sync.GlideClientConfiguration(
            [NodeAddress(server.host, server.port)], request_timeout=TIMEOUT
        )
        client = glide_sync.GlideClient.create(configuration)
        return GlideReader(client, f"{self.name}:{namespace}:")

    async def _open(
        self, server: Server, namespace: str, cache: ClientSideCache | None
    ) -> GlideStorage:
        configuration = GlideClientConfiguration(
            [NodeAddress(server.host, server.port)],
            request_timeout=TIMEOUT,
            inflight_requests_limit=MAX_CLIENTS,  # its default of 1,000 refuses 10,000 callers
            client_side_cache=cache,
        )
        client = await GlideClient.create(configuration)
        return GlideStorage(client, f"{self.name}:{namespace}:", TTL.get(namespace))


PEERS = {Glide.name: Glide()}
