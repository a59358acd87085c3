"""Threads where the system may refuse them: at a limit of processes or of memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from .exceptions import StorageUnavailableError


def started(target: Callable[[], None], name: str) -> threading.Thread | None:
    """Returns a daemon thread that runs ``target``, or None where none can be started."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


async def aside(work: Callable[[], None], *, or_here: bool = False) -> None:
    """Runs ``work`` in a thread of the event loop's executor.

    Where none can be started, ``or_here`` runs it in the loop's own thread, which waits.

    Raises:
        StorageUnavailableError: No thread can be started, and not ``or_here``.
        RuntimeError: No event loop is running.
    """
    asyncio.get_running_loop()  # or its own error
    began = False

    def begin() -> None:
        nonlocal began
        began = True
        work()

    try:
        await asyncio.to_thread(begin)
    except RuntimeError as error:
        if began:
            raise
        if or_here:
            work()
            return
        raise StorageUnavailableError(
            f"no thread could be started ({error}): raise the limit of processes (ulimit -u, the "
            "container's pids limit) or of memory, or use the blocking storage"
        ) from None
