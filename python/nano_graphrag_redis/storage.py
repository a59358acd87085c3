"""``RedisKVStorage``: the storage that the host awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from typing_extensions import Self

from ._core import KvStore
from .config.secrets import guarded
from .exceptions import StorageError
from .facade import RedisClientFacade
from .foundation import Foundation
from .host_base import BaseKVStorage
from .shapes import StorageStats, Value
from .sync import SyncRedisKVStorage


@dataclass(repr=False)
class RedisKVStorage(BaseKVStorage[Value]):
    """One namespace of nano-graphrag on Redis.

    Safe to use from any number of event loops, one after another or at once in threads, and after
    ``fork`` in the child. A cancelled call stops waiting; a write that has left is not taken back.

    Args:
        namespace: The host's partition, ``full_docs`` say.
        global_config: The host's settings; those named ``redis_*`` are read, from ``addon_params``
            in it too. The environment gives the rest.

    Raises:
        StorageConfigError: A setting is wrong or not supported yet. Nothing else can fail here:
            the first call connects.

    Example:
        >>> import asyncio
        >>> async def main() -> None:
        ...     async with RedisKVStorage("full_docs", {"redis_url": url}) as docs:
        ...         await docs.upsert({"doc-1": {"content": "Marley was dead: to begin with."}})
        ...         print(await docs.get_by_id("doc-1"), await docs.filter_keys(["doc-1", "doc-2"]))
        >>> asyncio.run(main())
        {'content': 'Marley was dead: to begin with.'} {'doc-2'}
    """

    namespace: str
    # Not compared, not shown, in no subclass either: it may hold a password.
    global_config: dict[str, Any] = field(compare=False, repr=False)

    def __post_init__(self) -> None:
        # What asdict() gives, and what shows a storage's attributes, hides it as well.
        self.global_config = guarded(self.global_config)
        self._foundation = Foundation(self.namespace, self.global_config)
        # None until an embedded server was joined; see _store.
        self._core: KvStore | None = self._foundation.calls if self._foundation.ready else None

    def __repr__(self) -> str:
        return f"RedisKVStorage({self.namespace!r}, {self._foundation.config.redis_url!r})"

    async def _store(self) -> KvStore:
        await asyncio.to_thread(self._foundation.join_server)
        self._core = self._foundation.calls
        return self._core

    async def all_keys(self) -> list[str]:
        """Every id of the namespace, each once, in no order. Walks the whole database (SCAN)."""
        return await (self._core or await self._store()).all_keys()

    async def get_by_id(self, id: str) -> Value | None:
        """The value of ``id``; None if it is absent.

        Raises:
            CorruptValueError: The stored bytes are no JSON.
            StorageOperationError: The key holds another type, or the server refused.
            StorageUnavailableError: No server; ``StorageTimeoutError`` if it gave no answer.
        """
        return await (self._core or await self._store()).get_by_id(id)

    async def get_by_ids(
        self, ids: Iterable[str], fields: Collection[str] | None = None
    ) -> list[Value | None]:
        """The values of ``ids``, in their order, repeats included; None for each that is absent.

        Args:
            ids: The ids.
            fields: Give only these keys of each value, which must be a dict.

        Raises:
            CorruptValueError, StorageOperationError, StorageUnavailableError: As ``get_by_id``;
                the whole call fails, and the error names the id.
        """
        return await (self._core or await self._store()).get_by_ids(ids, fields)

    async def filter_keys(self, data: Iterable[str]) -> set[str]:
        """Those of the ids that do *not* exist."""
        return await (self._core or await self._store()).filter_keys(data)

    async def upsert(self, data: dict[str, Value]) -> None:
        """Writes each value under its id, in place of what is there, and starts its TTL anew.

        Every value is checked before the first is sent. Two writers of one id: the last to arrive
        wins.

        Raises:
            StorageSerializationError: A value cannot be JSON; the error names its id, and nothing
                of the batch was written.
            StorageOperationError, StorageUnavailableError: ``error.unconfirmed_ids`` lists the
                ids that may not have been written. Writing them again is safe.
        """
        await (self._core or await self._store()).upsert(data)

    async def delete_by_id(self, id: str) -> bool:
        """Deletes ``id``; True if it was there.

        Raises:
            StorageTimeoutError: The answer was lost: whether it was there is unknown.
        """
        return await (self._core or await self._store()).delete_by_id(id)

    async def delete_by_ids(self, ids: Iterable[str]) -> int:
        """Deletes the ids and counts those that were there."""
        return await (self._core or await self._store()).delete_by_ids(ids)

    async def drop(self) -> None:
        """Deletes every id of the namespace, in pages; others are served in between."""
        await (self._core or await self._store()).drop()

    async def index_start_callback(self) -> None:
        """Empties the namespace if ``clear_on_start`` says so; never the LLM cache."""
        if self._foundation.clears_on_start:
            await self.drop()

    async def index_done_callback(self) -> None:
        """Returns once what was awaited before it is as safe as ``redis_durability`` asks."""
        await (self._core or await self._store()).index_done()

    async def query_done_callback(self) -> None:
        """Nothing to do: every write was acknowledged when it was awaited."""

    async def get_stats(self, light: bool = False) -> StorageStats:
        """Counts and sizes of the namespace.

        Args:
            light: Leave out the memory figures, which sample values and ask INFO.

        Returns:
            ``namespace``, ``key_count``, ``ttl_seconds`` (0: never expires),
            ``sample_memory_usage`` (mean bytes a key takes, over a sample),
            ``total_redis_memory`` (bytes, of the whole server), ``json_bytes_written`` and
            ``stored_bytes_written`` (bytes of the values that this storage has sent, before and
            after compression), ``connections``,
            ``requests_in_flight``, ``retries``, ``breaker_open``, ``forgiven`` (failures that
            the outage policy turned into misses, by kind), ``served_from_files`` (calls that the
            outage policy ``json`` has answered; None under another), ``dual_write`` (None where it
            is off): ``logged`` (changes that this storage has logged), ``late`` (those that were
            not at their time, or are not known to have been made), ``folds`` (how often it has
            brought the JSON file up to date); and ``near_cache`` (None without one):
            ``tracking`` (whether it is kept right, and used), ``hits`` and ``misses`` of this
            namespace; ``max_bytes``, ``bytes``, ``values``, ``evictions`` and ``invalidations``
            of all namespaces together.
        """
        return await (self._core or await self._store()).stats(light)

    async def check_health(self) -> bool:
        """Whether the server answers."""
        try:
            return await (self._core or await self._store()).ping()
        except StorageError:
            return False

    async def close(self) -> None:
        """Lets go of the connections, which close with their last storage; may be called again.

        Under ``redis_dual_write`` it first brings the JSON file up to date.
        """
        if self._foundation.closes_at_once:
            self._foundation.close()
        else:
            await asyncio.to_thread(self._foundation.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def sync(self) -> SyncRedisKVStorage[Value]:
        """The blocking twin, over the same connections; closing one closes both."""
        return SyncRedisKVStorage(self.namespace, self.global_config, foundation=self._foundation)

    # What the factory host's backup and health route reach for.

    async def _ensure_initialized(self) -> None:
        if self._core is None:
            await self._store()

    @property
    def _prefix(self) -> str:
        return self._foundation.store.prefix

    @property
    def _redis_client(self) -> RedisClientFacade:
        return RedisClientFacade(self._foundation.store, self._ensure_initialized)
