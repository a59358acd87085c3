"""Warnings about settings, each logged once per process.

A host creates four storages from one configuration; the reader needs each warning once.
"""

import logging
import threading

from nano_graphrag_redis.printable import visible

logger = logging.getLogger("nano_graphrag_redis")

_said: set[str] = set()
_lock = threading.Lock()


def warn_once(message: str) -> None:
    """Logs ``message`` as a warning, unless this process has already logged it."""
    with _lock:
        if message in _said:
            return
        _said.add(message)
    logger.warning("%s", visible(message))
