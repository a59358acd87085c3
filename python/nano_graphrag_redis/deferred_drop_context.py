"""``redis_deferred_drop``: a drop that waits for the values that take the place of the old ones.

The host drops the community reports at the start of an insert and writes the new ones minutes
later. Here such a drop sends nothing. It is remembered in the context (contextvars) of the insert
that asked: the insert sees an empty namespace, everyone else the old reports. Its first ``upsert``
replaces the old set; where none comes, the old set stays.

The core's half is ``src/store/deferred_drop_replace_all.rs``. Off, nothing of this is imported: a
storage defers by being given another store when it is made.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from ._core import BlockingKvStore, KvStore
from .exceptions import StorageError
from .printable import visible

logger = logging.getLogger("nano_graphrag_redis")


class _Drop:
    """One drop, until what comes after it.

    Attributes:
        waits: Whether the old values are still there, and the insert is not to see them.
    """

    def __init__(self, store: Any, namespace: str) -> None:
        self.store = store
        self.waits = True
        self.over = False
        self._failed = False
        self._namespace = namespace
        # A signal handler of the thread that holds it may write, too.
        self._lock = threading.RLock()
        self._replacing: Future[None] | None = None
        self._thread = 0
        _of_this_process.add(self)

    def begin_anew_in_child(self) -> None:
        """The thread that replaces the old values, if one does, is the parent's."""
        self._lock = threading.RLock()
        if self._replacing is not None and not self._replacing.done():
            self._replacing = None

    def begin(self) -> Future[None] | None:
        """Begins to replace the old values, unless somebody has: then what ends when that does.

        Whoever came later writes after it, or begins anew where it has failed. It may be of another
        thread or event loop: an insert may write from several.
        """
        with self._lock:
            if self._replacing is None:
                self._failed = True
                self._thread = threading.get_ident()
                self._replacing = Future()
                self._replacing.set_running_or_notify_cancel()  # who waits for it cannot cancel it
                return None
            return self._replacing

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """What has begun, to its end."""
        replaced = False
        try:
            yield
            replaced = True
            self._failed = self.waits = False
        finally:
            with self._lock:
                over = self._replacing
                if not replaced:
                    self._replacing = None
            if over is not None:
                over.set_result(None)

    def is_of_this_thread(self) -> bool:
        """Whether a task of this thread's event loop replaces them, which waits for this thread."""
        return self._thread == threading.get_ident()

    def end(self) -> None:
        """The insert is over; where it has written nothing, the old values stay."""
        self.over = True
        if not self.waits:
            return
        self.waits = False
        if self._failed:
            return  # the error told
        self.store.note_kept()
        logger.warning(
            "%s: nothing was written after drop(), by a failed insert or one that found no "
            "entities, so the old values stay; drop(now=True) deletes them",
            visible(self._namespace),
        )

    def __del__(self) -> None:
        # A context that has ended without index_done_callback.
        if self.waits and not sys.is_finalizing():
            self.end()


_of_this_process: weakref.WeakSet[_Drop] = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    for drop in list(_of_this_process):
        drop.begin_anew_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)

_drops: ContextVar[tuple[_Drop, ...]] = ContextVar("nano_graphrag_redis_drops", default=())
"""Those of the storages that this context has dropped."""


class _Deferring:
    """What the awaiting and the blocking store have in common."""

    def __init__(self, store: Any, namespace: str, key: object) -> None:
        self._store = store
        self._namespace = namespace
        self._key = key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _drop(self) -> _Drop | None:
        """The drop that this context has asked for, until its insert is over."""
        for drop in _drops.get():
            if drop.store is self._key and not drop.over:
                return drop
        return None

    def _is_empty(self) -> bool:
        """Whether this context is to see nothing."""
        drop = self._drop()
        return drop is not None and drop.waits

    def _defer(self) -> None:
        drop = self._drop()
        if drop is not None and drop.waits:
            return
        if drop is not None:
            drop.over = True
        others = tuple(each for each in _drops.get() if not each.over)
        _drops.set((*others, _Drop(self._key, self._namespace)))

    def dropped(self) -> None:
        """All is deleted: there is no drop to wait for any more."""
        drop = self._drop()
        if drop is not None:
            drop.waits = False

    def _end(self) -> None:
        drop = self._drop()
        if drop is not None:
            drop.end()


class _Awaiting(_Deferring):
    """The awaiting store."""

    @property
    def blocking(self) -> BlockingKvStore:
        return cast("BlockingKvStore", _Blocking(self._store.blocking, self._namespace, self._key))

    def get_by_id(self, id: str) -> Awaitable[Any | None]:
        return _given(None) if self._is_empty() else self._store.get_by_id(id)

    def get_by_ids(
        self, ids: Iterable[str], fields: Collection[str] | None = None
    ) -> Awaitable[list[Any | None]]:
        if self._is_empty():
            return _given([None for _ in ids])
        return cast("Awaitable[list[Any | None]]", self._store.get_by_ids(ids, fields))

    def filter_keys(self, ids: Iterable[str]) -> Awaitable[set[str]]:
        if self._is_empty():
            return _given(set(ids))
        return cast("Awaitable[set[str]]", self._store.filter_keys(ids))

    def all_keys(self) -> Awaitable[list[str]]:
        return _given([]) if self._is_empty() else self._store.all_keys()

    async def delete_by_id(self, id: str) -> bool:
        empty = self._is_empty()
        return bool(await self._store.delete_by_id(id)) and not empty

    async def delete_by_ids(self, ids: Iterable[str]) -> int:
        empty = self._is_empty()
        deleted: int = await self._store.delete_by_ids(ids)
        return 0 if empty else deleted

    async def upsert(self, data: dict[str, Any]) -> None:
        drop = self._drop()
        while drop is not None and drop.waits:
            others = drop.begin()
            if others is None:
                with drop.replacing():
                    await self._store.replace(data)
                return
            await asyncio.wrap_future(others)
        await self._store.upsert(data)

    async def drop(self) -> None:
        self._defer()

    async def index_done(self) -> None:
        self._end()
        await self._store.index_done()


class _Blocking(_Deferring):
    """The blocking store."""

    @property
    def blocking(self) -> BlockingKvStore:
        return cast("BlockingKvStore", self)

    def get_by_id(self, id: str) -> Any | None:
        return None if self._is_empty() else self._store.get_by_id(id)

    def get_by_ids(
        self, ids: Iterable[str], fields: Collection[str] | None = None
    ) -> list[Any | None]:
        if self._is_empty():
            return [None for _ in ids]
        return cast("list[Any | None]", self._store.get_by_ids(ids, fields))

    def filter_keys(self, ids: Iterable[str]) -> set[str]:
        return set(ids) if self._is_empty() else self._store.filter_keys(ids)

    def all_keys(self) -> list[str]:
        return [] if self._is_empty() else self._store.all_keys()

    def delete_by_id(self, id: str) -> bool:
        empty = self._is_empty()
        return bool(self._store.delete_by_id(id)) and not empty

    def delete_by_ids(self, ids: Iterable[str]) -> int:
        empty = self._is_empty()
        deleted: int = self._store.delete_by_ids(ids)
        return 0 if empty else deleted

    def upsert(self, data: dict[str, Any]) -> None:
        drop = self._drop()
        while drop is not None and drop.waits:
            others = drop.begin()
            if others is None:
                with drop.replacing():
                    self._store.replace(data)
                return
            if not others.done() and drop.is_of_this_thread():
                raise StorageError(
                    "nothing was written: a task of this thread's event loop replaces what was "
                    "dropped, and a blocking upsert() here would wait for it for ever; await "
                    "upsert(), or call this from another thread",
                    namespace=self._namespace,
                )
            others.result()
        self._store.upsert(data)

    def drop(self) -> None:
        self._defer()

    def index_done(self) -> None:
        self._end()
        self._store.index_done()


def deferring(calls: KvStore, store: KvStore, namespace: str) -> KvStore:
    """The same calls, whose drop waits.

    Args:
        calls: What a storage calls.
        store: The store under it, whose drops they are.
        namespace: For messages.
    """
    return cast("KvStore", _Awaiting(calls, namespace, store))


async def _given(value: Any) -> Any:
    return value
