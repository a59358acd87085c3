"""valkey-glide and orjson: another client with a Rust core, in an expert's hands."""

from typing import Any

import orjson
from glide import (
    Batch,
    ExpirySet,
    ExpiryType,
    GlideClient,
    GlideClientConfiguration,
    NodeAddress,
)

from benches.peers import TTL
from benches.server import MAX_CLIENTS, Server

PIECE = 256  # keys in one MGET, from trial runs
WRITE_PIECE = 64  # and in one MSET
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

    async def get_by_ids(self, ids: list[str]) -> list[Any]:
        keys: list[str | bytes | bytearray | memoryview] = [self._prefix + id for id in ids]
        values: list[Any] = []
        for start in range(0, len(keys), PIECE):
            texts = await self._client.mget(keys[start : start + PIECE])
            values += [None if text is None else orjson.loads(text) for text in texts]
        return values

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
            for start in range(0, len(items), WRITE_PIECE):
                piece = items[start : start + WRITE_PIECE]
                await self._client.mset({self._prefix + id: orjson.dumps(v) for id, v in piece})

    async def index_done_callback(self) -> None:
        """Every write was awaited: nothing is left to do."""

    async def close(self) -> None:
        await self._client.close()


class Glide:
    """The peer. Its blocking client is another distribution, which is not measured."""

    name = "glide"
    title = "valkey-glide + orjson"

    async def open(self, server: Server, namespace: str) -> GlideStorage:
        configuration = GlideClientConfiguration(
            [NodeAddress(server.host, server.port)],
            request_timeout=TIMEOUT,
            inflight_requests_limit=MAX_CLIENTS,  # its default of 1,000 refuses 10,000 callers
        )
        client = await GlideClient.create(configuration)
        return GlideStorage(client, f"{self.name}:{namespace}:", TTL.get(namespace))

    def open_blocking(self, _server: Server, _namespace: str) -> None:
        return None


PEERS = {Glide.name: Glide()}
