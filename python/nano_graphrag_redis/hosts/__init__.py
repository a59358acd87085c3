"""Makes ``STORAGE_KV_BACKEND=redis`` work in the nano-graphrag that is installed.

A host has one of two shapes, or both: upstream's ``GraphRAG`` takes the storage class as a field
(``upstream``), a factory host makes its storages in a ``StorageFactory`` (``factory``).
"""

from __future__ import annotations

import threading
from contextlib import ExitStack

from nano_graphrag_redis.exceptions import StorageConfigError

from . import factory, upstream
from .modules import imported

__all__ = ["register", "unregister"]

_lock = threading.Lock()
_undo = ExitStack()
_registered = False


def register() -> None:
    """Makes the installed host use Redis when ``STORAGE_KV_BACKEND`` says so.

    The variable is read whenever the host builds its storages, not here. Importing the host takes
    seconds. Registering twice is registering once.

    Raises:
        StorageConfigError: No nano-graphrag is installed, or one with no place for a storage; or a
            subclass of ``GraphRAG`` keeps its default storage where it cannot be replaced.
    """
    global _registered
    with _lock:
        if _registered:
            return
        host = imported("nano_graphrag")
        if host is None:
            raise StorageConfigError("nano-graphrag is not installed: pip install nano-graphrag")
        with ExitStack() as undo:  # a registration that fails half-way is taken back
            shapes = [upstream.register(host, undo), factory.register(undo)]
            if not any(shapes):
                raise StorageConfigError(
                    f"The installed nano-graphrag {getattr(host, '__version__', '')} has neither "
                    f"the field GraphRAG.{upstream.FIELD} nor a StorageFactory: install another"
                )
            _undo.enter_context(undo.pop_all())
        _registered = True


def unregister() -> None:
    """Puts back what stood in the host before; GraphRAG objects that exist keep their storages.

    Without a registration it does nothing.
    """
    global _registered
    with _lock:
        _undo.close()
        _registered = False
