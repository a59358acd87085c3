"""Makes ``STORAGE_KV_BACKEND=redis`` work in the installed nano-graphrag.

A host has one of two shapes, or both: upstream's ``GraphRAG`` takes the storage class as a field
(``upstream``), a factory host makes its storages in a ``StorageFactory`` (``factory``).
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack
from types import ModuleType
from typing import Final

from nano_graphrag_redis.exceptions import StorageConfigError
from nano_graphrag_redis.optional_imports import imported
from nano_graphrag_redis.workers.backend_and_hash_seed import warn_of_random_hashes

from . import factory, upstream

__all__ = ["register", "unregister"]

NEWEST_PYTHON: Final = (3, 12)
"""The newest that nano-graphrag 0.0.8.2 installs on: its graspologic stops there."""

_lock = threading.Lock()
"""Never held while the host is imported: that import may end in another call of ``register``."""

_undo = ExitStack()
_registered: ModuleType | None = None
"""The host that was registered. One that is imported anew is another."""


def _unlock_in_child() -> None:
    """A thread that held the lock at the fork does not exist in the child."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


def register() -> None:
    """Makes the installed host use Redis when ``STORAGE_KV_BACKEND`` is ``redis``.

    The variable is read whenever the host creates its storages, not here. Imports the host, which
    takes seconds. Idempotent. Warns about a random hash seed, because workers with different
    seeds do not share all cached answers.

    Raises:
        StorageConfigError: nano-graphrag is not installed, or has no extension point for storages;
            or a subclass of ``GraphRAG`` keeps its default storage where it cannot be replaced.
    """
    global _registered
    host = imported("nano_graphrag")
    if host is None:
        raise StorageConfigError(_no_host())
    if host is _registered:
        return
    with _lock:
        if host is _registered:
            return
        with ExitStack() as undo:  # a registration that fails half-way is taken back
            shapes = [upstream.register(host, undo), factory.register(undo)]
            if not any(shapes):
                raise StorageConfigError(
                    f"The installed nano-graphrag {getattr(host, '__version__', '')} has neither "
                    f"the field GraphRAG.{upstream.FIELD} nor a StorageFactory: install another"
                )
            _undo.enter_context(undo.pop_all())
        _registered = host
    if os.environ.get("STORAGE_KV_BACKEND", "").strip().lower() == "redis":
        warn_of_random_hashes()


def _no_host() -> str:
    running = sys.version_info[:2]
    if running <= NEWEST_PYTHON:
        return "nano-graphrag is not installed: pip install nano-graphrag"
    return (
        f"nano-graphrag is not installed, and does not install on Python {running[0]}."
        f"{running[1]}: it takes CPython 3.10 to {NEWEST_PYTHON[0]}.{NEWEST_PYTHON[1]}. The "
        "storages of this package work without it"
    )


def unregister() -> None:
    """Restores the host. Existing GraphRAG objects keep their storages.

    Does nothing if ``register`` was not called.
    """
    global _registered
    with _lock:
        _undo.close()
        _registered = None
