"""What is called when this process ends.

``atexit`` alone would miss the children that ``multiprocessing``, or its copy in Celery, billiard,
has forked: they end by ``os._exit``, after finalizers of their own.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from . import _core

Call = Callable[[], object]

_calls: Final[list[tuple[Call, int | None]]] = [(_core.close_at_exit, None)]
"""In the order of their registration, some with the one process whose end they are for. The core
registers itself with ``atexit``."""

_FORKING: Final = ("multiprocessing.process", "billiard.process")

_LAST: Final = -100
"""The priority of a finalizer that comes after those of others, which may use a storage."""


def at_exit(call: Call, *, in_children: bool = True) -> None:
    """Has ``call`` run when this process ends, before what was given earlier.

    Args:
        call: What to call.
        in_children: Whether also at the end of its children of ``multiprocessing``, which may have
            no part in it.
    """
    _calls.append((call, None if in_children else os.getpid()))
    atexit.register(call)


def not_at_exit(call: Call) -> None:
    """Takes back what was given to :func:`at_exit`."""
    _calls[:] = [each for each in _calls if each[0] is not call]
    atexit.unregister(call)


def _end_child() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()  # it may still use a storage, and would be waited for in any case
    while _calls:
        call, process = _calls.pop()
        if process in {None, os.getpid()}:
            call()


def _finalize_child(util: Any) -> None:
    util.Finalize(None, _end_child, exitpriority=_LAST)


def _watch() -> None:
    """Finalizes this process if it is a child of one of those modules, or is becoming one."""
    forking = [sys.modules[name] for name in _FORKING if name in sys.modules]
    if not forking:
        return
    from multiprocessing import util  # which billiard uses, too

    # A child forgets the finalizers of its parent when it begins, and then calls this.
    util.register_after_fork(util, _finalize_child)
    if any(process.current_process()._parent_pid is not None for process in forking):  # noqa: SLF001
        _finalize_child(util)  # it has begun


_watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch)
