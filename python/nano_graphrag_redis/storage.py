"""``RedisKVStorage``: the async storage that the host uses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, NoReturn, SupportsIndex

from typing_extensions import Self

from ._core import KvStore
from .config.namespaces import LLM_CACHE
from .config.secrets import guarded
from .exceptions import StorageError
from .host_base import BaseKVStorage
from .host_redis_client import RedisClientFacade
from .storage_lifetime import Backend, uncopied
from .sync import SyncRedisKVStorage
from .threads import aside
from .typed_dicts import StorageStats, Value
from .workers.backend_and_hash_seed import warn_of_random_hashes


@dataclass(repr=False)
class RedisKVStorage(BaseKVStorage[Value]):
    """One namespace of nano-graphrag on Redis.

    Safe to use from any number of event loops, in sequence or concurrently in threads, and in a
    child after ``fork``. Cancelling a call stops further batches; writes already sent may still
    apply.

    Args:
        namespace: The host's namespace, such as ``full_docs``.
        global_config: The host's settings. Keys named ``redis_*`` are read, in ``addon_params``
            too; the environment supplies the rest.

    Raises:
        StorageConfigError: A setting is unknown or invalid. Nothing else can fail here,
            because the first call connects.

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
    global_config: Mapping[str, Any] = field(compare=False, repr=False)

    def __post_init__(self) -> None:
        # What asdict() gives, and what shows a storage's attributes, hides it as well.
        self.global_config = guarded(self.global_config)
        self._backend = Backend(self.namespace, self.global_config)
        # None until an embedded server was joined; see _store.
        self._core: KvStore | None = self._backend.calls if self._backend.ready else None
        # A setting of the host's: who else opens the cache makes no prompts.
        if self.namespace == LLM_CACHE and "enable_llm_cache" in self.global_config:
            warn_of_random_hashes()

    def __repr__(self) -> str:
        return f"RedisKVStorage({self.namespace!r}, {self._backend.config.redis_url!r})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise uncopied(self, self.namespace)

    async def _store(self) -> KvStore:
        await self._backend.join_aside()
        if self._backend.ready:
            self._core = self._backend.calls
        return self._backend.calls

    async def all_keys(self) -> list[str]:
        """Returns every id of the namespace once, in no particular order.

        Scans the whole database unless ``redis_registry`` is on.
        """
        return await (self._core or await self._store()).all_keys()

    async def get_by_id(self, id: str) -> Value | None:
        """Returns the value of ``id``, or None if there is none.

        With ``redis_single_flight=on``, a task that misses in ``llm_response_cache`` waits while
        another task, in any process, is making that answer.

        Raises:
            CorruptValueError: The stored bytes are not JSON.
            StorageOperationError: The key holds another type, or the server refused the command.
            StorageUnavailableError: The server could not be reached; ``StorageTimeoutError`` if it
                did not answer in time.
        """
        return await (self._core or await self._store()).get_by_id(id)

    async def get_by_ids(
        self, ids: Iterable[str], fields: Collection[str] | None = None
    ) -> list[Value | None]:
        """Returns the values of ``ids`` in the same order, with None for each missing id.

        Args:
            ids: The ids; duplicates are allowed.
            fields: Return only these keys of each value, which must be a dict.

        Raises:
            CorruptValueError, StorageOperationError, StorageUnavailableError: As for
                ``get_by_id``. The whole call fails, and the error names the id.
        """
        return await (self._core or await self._store()).get_by_ids(ids, fields)

    async def filter_keys(self, data: Iterable[str]) -> set[str]:
        """Returns the ids that do *not* exist."""
        return await (self._core or await self._store()).filter_keys(data)

    async def upsert(self, data: dict[str, Value]) -> None:
        """Writes each value under its id, replaces existing values, and restarts their TTL.

        All values are validated before the first is sent. If several writers write the same id,
        the last write wins.

        Raises:
            StorageSerializationError: A value cannot be represented as JSON. The error names its
                id, and nothing in the batch was written.
            StorageOperationError, StorageUnavailableError: ``error.unconfirmed_ids`` lists the
                ids that may not have been written. It is safe to write them again.
        """
        await (self._core or await self._store()).upsert(data)

    async def delete_by_id(self, id: str) -> bool:
        """Deletes ``id``, and returns True if it existed.

        Raises:
            StorageTimeoutError: The reply was lost, so it is unknown whether the id existed.
        """
        return await (self._core or await self._store()).delete_by_id(id)

    async def delete_by_ids(self, ids: Iterable[str]) -> int:
        """Deletes the ids, and returns how many of them existed."""
        return await (self._core or await self._store()).delete_by_ids(ids)

    async def drop(self, *, now: bool = False) -> None:
        """Deletes every id of the namespace, page by page so that other callers are not blocked.

        Args:
            now: Under ``redis_deferred_drop``, delete the community reports too at once, rather
                than when the next ones are written.
        """
        calls = self._core or await self._store()
        await (self._backend.at_once if now else calls).drop()
        if now:
            self._backend.note_dropped()

    async def index_start_callback(self) -> None:
        """Empties the namespace if ``clear_on_start`` is set; never the LLM cache."""
        if self._backend.clears_on_start:
            await self.drop(now=True)

    async def index_done_callback(self) -> None:
        """Waits until all earlier writes have reached the level set by ``redis_durability``."""
        await (self._core or await self._store()).index_done()

    async def query_done_callback(self) -> None:
        """Does nothing: every write was acknowledged when it returned."""

    async def get_stats(self, light: bool = False) -> StorageStats:
        """Returns counts and sizes of the namespace.

        Args:
            light: Leave out the memory figures, which require sampling values and calling INFO.

        Returns:
            ``namespace``, ``key_count``, ``ttl_seconds`` (0: no expiry),
            ``sample_memory_usage`` (mean bytes per key, over a sample),
            ``total_redis_memory`` (bytes used by the whole server), ``json_bytes_written`` and
            ``stored_bytes_written`` (bytes of the values that this storage has sent, before and
            after compression), ``connections``,
            ``requests_in_flight``, ``retries``, ``breaker_open``, ``forgiven`` (failures that
            the outage policy turned into misses, by kind), ``served_from_files`` (calls answered
            under the outage policy ``json``; None under any other). ``dual_write`` is None if it
            is off, else: ``logged`` (changes that this storage has logged), ``late`` (changes
            that were not logged in time, or are not known to have been made), ``folds`` (how
            often it has brought the JSON file up to date). ``near_cache`` is None if it is off,
            else: ``tracking`` (whether the server keeps it up to date, so that it is used),
            ``hits`` and ``misses`` of this namespace, and ``max_bytes``, ``bytes``, ``values``,
            ``evictions`` and ``invalidations`` of all namespaces together.
            ``single_flight`` is None if it is off, else: ``leases`` (misses that call the LLM),
            ``waits`` (misses that waited for another caller's answer), ``saved`` (misses that
            received it), ``promoted`` (misses that waited and then called the LLM, because the
            first caller failed), ``timed_out``, and ``would_wait`` (under ``observe``).
            ``ttl_renewals`` are values given their time to live anew.
            ``deferred_drop`` is None if it is off, else: ``swaps`` (how often this storage has
            replaced all values) and ``kept`` (drops after which nothing was written).
        """
        return await (self._core or await self._store()).stats(light)

    async def check_health(self) -> bool:
        """Returns whether the server answers."""
        try:
            return await (self._core or await self._store()).ping()
        except StorageError:
            return False

    async def close(self) -> None:
        """Releases the connections, which close with their last storage. May be called again.

        With ``redis_dual_write``, brings the JSON file up to date first.
        """
        if self._backend.closes_at_once:
            self._backend.close()
        else:
            await aside(self._backend.close, or_here=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @cached_property
    def sync(self) -> SyncRedisKVStorage[Value]:
        """The blocking storage on the same connections; closing one closes both."""
        return SyncRedisKVStorage(self.namespace, self.global_config, backend=self._backend)

    # What the factory host's backup and health route reach for.

    async def _ensure_initialized(self) -> None:
        if self._core is None:
            await self._store()

    @property
    def _prefix(self) -> str:
        return self._backend.store.prefix

    @property
    def _redis_client(self) -> RedisClientFacade:
        return RedisClientFacade(self._backend.store, self._ensure_initialized)
