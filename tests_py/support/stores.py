"""One blocking interface over the three storages that owe the host the same contract.

The contract tests speak to `Store` and never learn which storage answers: `JsonKVStorage` (the
oracle), `RedisKVStorage` or `SyncRedisKVStorage`. The last one needs no adapter; the protocol is
its own shape.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal, Protocol, TypeVar

from nano_graphrag._storage import JsonKVStorage

from nano_graphrag_redis import RedisKVStorage, StorageStats, SyncRedisKVStorage

RedisKind = Literal["async", "sync"]
Kind = Literal["json"] | RedisKind
Settings = dict[str, Any]
"""A host's `global_config`."""

T = TypeVar("T")


class Store(Protocol):
    """What the host asks of every key-value storage, as blocking calls."""

    def all_keys(self) -> list[str]: ...
    def get_by_id(self, id: str) -> Any: ...
    def get_by_ids(
        self, ids: Iterable[str], fields: Collection[str] | None = None
    ) -> list[Any]: ...
    def filter_keys(self, data: Iterable[str]) -> set[str]: ...
    def upsert(self, data: dict[str, Any]) -> None: ...
    def drop(self) -> None: ...
    def index_start_callback(self) -> None: ...
    def index_done_callback(self) -> None: ...
    def query_done_callback(self) -> None: ...


class RedisStore(Store, Protocol):
    """What the Redis storages offer beyond the oracle."""

    def delete_by_id(self, id: str) -> bool: ...
    def delete_by_ids(self, ids: Iterable[str]) -> int: ...
    def get_stats(self, light: bool = False) -> StorageStats: ...
    def check_health(self) -> bool: ...
    def close(self) -> None: ...


OpenStore = Callable[..., Store]
"""`open_store(namespace, **settings)`: a storage that is closed for whoever opened it."""
OpenRedisStore = Callable[..., RedisStore]


class _Awaited:
    """A storage of coroutine functions; each call runs to its end on one loop."""

    def __init__(self, storage: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._storage = storage
        self._loop = loop

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(call)

    def all_keys(self) -> list[str]:
        return self._run(self._storage.all_keys())

    def get_by_id(self, id: str) -> Any:
        return self._run(self._storage.get_by_id(id))

    def get_by_ids(self, ids: Iterable[str], fields: Collection[str] | None = None) -> list[Any]:
        return self._run(self._storage.get_by_ids(ids, fields))

    def filter_keys(self, data: Iterable[str]) -> set[str]:
        return self._run(self._storage.filter_keys(data))

    def upsert(self, data: dict[str, Any]) -> None:
        self._run(self._storage.upsert(data))

    def drop(self) -> None:
        self._run(self._storage.drop())

    def index_start_callback(self) -> None:
        self._run(self._storage.index_start_callback())

    def index_done_callback(self) -> None:
        self._run(self._storage.index_done_callback())

    def query_done_callback(self) -> None:
        self._run(self._storage.query_done_callback())


class _Oracle(_Awaited):
    """`JsonKVStorage` as the next process finds it: each change is saved and loaded again.

    Only then has it turned tuples into lists and keys into strings, as every storage must.
    """

    def upsert(self, data: dict[str, Any]) -> None:
        super().upsert(data)
        self._save_and_load()

    def drop(self) -> None:
        super().drop()
        self._save_and_load()

    def _save_and_load(self) -> None:
        self.index_done_callback()
        self._storage = type(self._storage)(self._storage.namespace, self._storage.global_config)


class _AwaitedRedis(_Awaited):
    """`RedisKVStorage`, called from outside any running loop."""

    _storage: RedisKVStorage

    def delete_by_id(self, id: str) -> bool:
        return self._run(self._storage.delete_by_id(id))

    def delete_by_ids(self, ids: Iterable[str]) -> int:
        return self._run(self._storage.delete_by_ids(ids))

    def get_stats(self, light: bool = False) -> StorageStats:
        return self._run(self._storage.get_stats(light))

    def check_health(self) -> bool:
        return self._run(self._storage.check_health())

    def close(self) -> None:
        self._run(self._storage.close())


@contextmanager
def json_store(namespace: str, settings: Settings) -> Iterator[Store]:
    """Open the oracle over the files in `settings["working_dir"]`."""
    with closing(asyncio.new_event_loop()) as loop:
        yield _Oracle(JsonKVStorage(namespace, settings), loop)


@contextmanager
def redis_store(kind: RedisKind, namespace: str, settings: Settings) -> Iterator[RedisStore]:
    """Open one of our two classes, and close it at the end (a test may have done so before)."""
    if kind == "sync":
        with SyncRedisKVStorage(namespace, settings) as storage:
            yield storage
        return
    with (
        closing(asyncio.new_event_loop()) as loop,
        closing(_AwaitedRedis(RedisKVStorage(namespace, settings), loop)) as store,
    ):
        yield store


@contextmanager
def opened(kind: Kind, namespace: str, settings: Settings) -> Iterator[Store]:
    """Open a storage of any kind."""
    opening = (
        json_store(namespace, settings)
        if kind == "json"
        else redis_store(kind, namespace, settings)
    )
    with opening as store:
        yield store
