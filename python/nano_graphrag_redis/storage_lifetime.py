"""What both storages share, from making to closing: settings, store, embedded server, exit."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ._core import FileWork, KvStore
from .config import RedisConfig
from .config.namespaces import LLM_CACHE, REPORTS
from .config.secrets import guarded
from .exceptions import StorageConfigError, StorageError, StorageUnavailableError
from .printable import visible
from .process_exit import at_exit, not_at_exit
from .threads import aside

logger = logging.getLogger("nano_graphrag_redis")

_joining = threading.RLock()
"""Held while an embedded server is joined or left, so that a storage counts once."""


def _unlock_in_child() -> None:
    """A thread that held the lock at the fork does not exist in the child."""
    global _joining
    _joining = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


_exit_began: float | None = None
"""When the first storage was closed at exit: the one deadline for all is counted from then."""


def _left_at_exit(timeout: float) -> float:
    """Seconds that are left of those that all storages together may take at exit."""
    global _exit_began
    now = time.monotonic()
    if _exit_began is None:
        _exit_began = now
    return max(0.0, _exit_began + timeout - now)


def _fold_at_exit(backend: Backend) -> None:
    """Closes what nobody closed: the host closes nothing."""
    known = weakref.ref(backend)

    def close() -> None:
        alive = known()
        if alive is not None:
            alive._close(within=_left_at_exit(alive.config.redis_operation_timeout))  # noqa: SLF001

    # A child that ends has not made this storage, and its files may be large.
    at_exit(close, in_children=False)
    weakref.finalize(backend, not_at_exit, close).atexit = False


def uncopied(storage: object, namespace: str) -> TypeError:
    """What pickling or copying a storage raises."""
    return TypeError(
        f"a {type(storage).__name__} (namespace {visible(namespace)!r}) cannot be pickled or "
        "copied: it holds this process's connections; pass its settings, and build one from them "
        "where it is used"
    )


class Backend:
    """What the async and the blocking storage of one namespace share.

    Creating one validates every setting and does no I/O. The first call joins or starts the
    embedded server.

    Args:
        namespace: The host's namespace.
        global_config: The host's settings, or settings that have been read already. Keys named
            ``redis_*`` are read, in ``addon_params`` too.
        ttl: TTL in seconds, in place of the configured one; 0 means no expiry.

    Raises:
        StorageConfigError: A setting is unknown or invalid.
    """

    def __init__(
        self,
        namespace: str,
        global_config: Mapping[str, Any] | RedisConfig,
        *,
        ttl: int | None = None,
    ) -> None:
        self.namespace = namespace
        if isinstance(global_config, Mapping):
            global_config = guarded(global_config)
        if not isinstance(global_config, RedisConfig):
            global_config = RedisConfig.from_global_config(global_config)
        self.config = global_config
        directory = self.config.embedded_directory
        # Resolved now: the working directory of the first call may be another one.
        self._directory: Path | None = directory.resolve() if directory else None
        settings = self.config.core_settings(namespace, url=self._socket_url())
        self.store = KvStore(settings if ttl is None else settings | {"ttl": ttl})
        # What the host calls: the same store, each of its calls a span where that is asked for.
        self.calls = self.store
        if self.config.redis_tracing != "off":
            from .tracing import traced

            self.calls = traced(self.store, namespace, self.config)
        # The same calls, and a drop that is to wait for nothing.
        self.at_once = self.calls
        if self.config.redis_deferred_drop and namespace == REPORTS:
            from .deferred_drop_context import deferring

            self.calls = deferring(self.calls, self.store, namespace)
        self.ready = self._directory is None
        self._join_after = 0.0
        self._folds = self.config.redis_dual_write
        if self._folds:
            _fold_at_exit(self)
        if self.config.redis_metrics_dir is not None:
            from nano_graphrag_redis.workers.counter_writer import keep_writing

            keep_writing(Path(self.config.redis_metrics_dir).absolute())

    def note_dropped(self) -> None:
        """All was deleted at once: a drop of this context that still waits is done."""
        if self.calls is not self.at_once:
            self.calls.dropped()  # type: ignore[attr-defined]

    def _socket_url(self) -> str | None:
        if self._directory is None:
            return None
        from .embedded import socket_path

        return "unix://" + quote(str(socket_path(self._directory)))

    def join_server(self) -> None:
        """Joins or starts the embedded server, and blocks until it answers. Idempotent.

        Where outages are forgiven, so is a server that does not start: the calls find none. After
        ``redis_breaker_recovery``, the next one tries again.

        Raises:
            StorageConfigError: The directory or the server binary cannot be used.
            StorageUnavailableError: The server does not start.
        """
        from .embedded import acquire, keep_watch

        with _joining:
            if self._directory is None or self.ready or self.store.closed:
                return
            if time.monotonic() < self._join_after:
                return
            try:
                acquire(self._directory)
            except StorageUnavailableError as error:
                self._not_joined(error)
            else:
                self.ready = True
                keep_watch()

    async def join_aside(self) -> None:
        """``join_server`` in a thread of the event loop's executor.

        Raises:
            StorageConfigError: As for ``join_server``.
            StorageUnavailableError: As for ``join_server``, or no thread can be started.
        """
        try:
            await aside(self.join_server)
        except StorageUnavailableError as error:
            self._not_joined(error)

    def _not_joined(self, error: StorageUnavailableError) -> None:
        """Raises the error, unless the outage policy forgives it."""
        if self.config.outage_policy_for(self.namespace) == "raise":
            raise error
        logger.warning("%s: %s", visible(self.namespace), visible(error))
        self._join_after = time.monotonic() + self.config.redis_breaker_recovery

    def close(self) -> None:
        """Releases the connections and the embedded server. May be called again.

        With ``redis_dual_write``, first rewrites the JSON file, which takes as long as writing it
        takes. At exit, all storages together wait for the server for at most
        ``redis_operation_timeout``; the rest stays in the change logs and is folded later.
        """
        self._close(within=None)

    def _close(self, within: float | None) -> None:
        self._fold(within)
        self.store.close()
        if self._directory is None:
            return
        with _joining:
            if self.ready:
                from .embedded import release

                release(self._directory)
                self.ready = False

    @property
    def closes_at_once(self) -> bool:
        """Whether ``close`` returns without waiting."""
        return not self._folds

    def _fold(self, within: float | None) -> None:
        """Folds the change log into the JSON file, once. A failure is logged; the log stays."""
        if not self._folds:
            return
        self._folds = False
        try:
            # Nothing was written yet by one that has not joined its server.
            if self.ready and not self.store.closed:
                directory = Path(self.config.working_dir or "")
                store = self.store.blocking
                FileWork.fold(store, directory.absolute(), ask=True, within=within).step()
        except StorageConfigError:
            pass  # the file follows another workspace: each write of ours was refused
        except StorageError as error:
            logger.warning(
                "%s: the JSON file is behind its log: %s", visible(self.namespace), visible(error)
            )

    @property
    def clears_on_start(self) -> bool:
        """Whether ``index_start_callback`` empties the namespace.

        Never the LLM cache, which cost money, or a shared namespace, which others use too.
        """
        shared = self.namespace in self.config.redis_shared_namespaces
        return self.config.clear_on_start and self.namespace != LLM_CACHE and not shared
