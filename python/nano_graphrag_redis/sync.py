"""``SyncRedisKVStorage``: the same storage for blocking code, with or without nano-graphrag."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, NoReturn, SupportsIndex

from typing_extensions import Self

from ._core import BlockingKvStore
from .config.secrets import guarded
from .exceptions import StorageError
from .storage_lifetime import Backend, uncopied
from .typed_dicts import StorageStats, Value


class SyncRedisKVStorage(Generic[Value]):
    """One namespace on Redis, for blocking code.

    Methods behave and fail as in ``RedisKVStorage``. You may call them from any thread, and from
    inside a running event loop, which they block. Ctrl-C interrupts a call and stops further
    batches; writes already sent may still apply.

    Args:
        namespace: The host's namespace, such as ``full_docs``.
        global_config: Settings named ``redis_*``; the environment supplies the rest.
        backend: The internals of another storage, to share them; only ``.sync`` passes one.

    Raises:
        StorageConfigError: A setting is unknown or invalid.

    Example:
        >>> with SyncRedisKVStorage("full_docs", {"redis_url": url}) as docs:
        ...     docs.upsert({"doc-1": {"content": "Marley was dead: to begin with."}})
        ...     docs.get_by_ids(["doc-1", "doc-2"])
        [{'content': 'Marley was dead: to begin with.'}, None]
    """

    def __init__(
        self,
        namespace: str,
        global_config: Mapping[str, Any] | None = None,
        *,
        backend: Backend | None = None,
    ) -> None:
        self.namespace = namespace
        self.global_config = global_config = guarded(global_config or {})
        self._backend = backend or Backend(namespace, self.global_config)
        # None until an embedded server was joined; see _store.
        ready = self._backend.ready
        self._core: BlockingKvStore | None = self._backend.calls.blocking if ready else None

    def __repr__(self) -> str:
        return f"SyncRedisKVStorage({self.namespace!r}, {self._backend.config.redis_url!r})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise uncopied(self, self.namespace)

    def _store(self) -> BlockingKvStore:
        self._backend.join_server()
        calls = self._backend.calls.blocking
        if self._backend.ready:
            self._core = calls
        return calls

    def all_keys(self) -> list[str]:
        """Returns every id of the namespace once, in no particular order."""
        return (self._core or self._store()).all_keys()

    def get_by_id(self, id: str) -> Value | None:
        """Returns the value of ``id``, or None if there is none."""
        return (self._core or self._store()).get_by_id(id)

    def get_by_ids(
        self, ids: Iterable[str], fields: Collection[str] | None = None
    ) -> list[Value | None]:
        """Returns the values of ``ids`` in the same order, with None for each missing id."""
        return (self._core or self._store()).get_by_ids(ids, fields)

    def filter_keys(self, data: Iterable[str]) -> set[str]:
        """Returns the ids that do *not* exist."""
        return (self._core or self._store()).filter_keys(data)

    def upsert(self, data: dict[str, Value]) -> None:
        """Writes each value under its id; all are validated before the first is sent."""
        (self._core or self._store()).upsert(data)

    def delete_by_id(self, id: str) -> bool:
        """Deletes ``id``, and returns True if it existed."""
        return (self._core or self._store()).delete_by_id(id)

    def delete_by_ids(self, ids: Iterable[str]) -> int:
        """Deletes the ids, and returns how many of them existed."""
        return (self._core or self._store()).delete_by_ids(ids)

    def drop(self, *, now: bool = False) -> None:
        """Deletes every id of the namespace; ``now`` as of ``RedisKVStorage.drop``."""
        calls = self._core or self._store()
        (self._backend.at_once.blocking if now else calls).drop()
        if now:
            self._backend.note_dropped()

    def index_start_callback(self) -> None:
        """Empties the namespace if ``clear_on_start`` is set; never the LLM cache."""
        if self._backend.clears_on_start:
            self.drop(now=True)

    def index_done_callback(self) -> None:
        """Waits until all earlier writes have reached the level set by ``redis_durability``."""
        (self._core or self._store()).index_done()

    def query_done_callback(self) -> None:
        """Does nothing: every write was acknowledged when it returned."""

    def get_stats(self, light: bool = False) -> StorageStats:
        """Returns counts and sizes of the namespace; see ``RedisKVStorage.get_stats``."""
        return (self._core or self._store()).stats(light)

    def check_health(self) -> bool:
        """Returns whether the server answers."""
        try:
            return (self._core or self._store()).ping()
        except StorageError:
            return False

    def close(self) -> None:
        """Releases the connections, which close with their last storage. May be called again.

        With ``redis_dual_write``, brings the JSON file up to date first.
        """
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
