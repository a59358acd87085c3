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

_calls: Final[list[Call]] = [_core.close_at_exit]
"""In the order of their registration. The core registers itself with ``atexit``."""

_FORKING: Final = ("multiprocessing.process", "billiard.process")

_LAST: Final = -100
"""The priority of a finalizer that comes after those of others, which may use a storage."""


def at_exit(call: Call) -> None:
    """Has ``call`` run when this process ends, before what was given earlier."""
    _calls.append(call)
    atexit.register(call)


def not_at_exit(call: Call) -> None:
    """Takes back what was given to :func:`at_exit`."""
    if call in _calls:
        _calls.remove(call)
    atexit.unregister(call)


def _end_child() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()  # it may still use a storage, and would be waited for in any case
    while _calls:
        _calls.pop()()


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
