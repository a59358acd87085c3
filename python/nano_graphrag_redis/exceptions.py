"""The exceptions of this library: one tree.

Each takes one message, which names the setting, the namespace or the id concerned and what to do.
The details are attributes: an ``OSError`` takes a second argument for its ``errno``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .visible import visible

__all__ = [
    "CircuitOpenError",
    "CorruptValueError",
    "DurabilityError",
    "JsonFileError",
    "StorageAuthError",
    "StorageClosedError",
    "StorageConfigError",
    "StorageError",
    "StorageOperationError",
    "StorageSerializationError",
    "StorageTimeoutError",
    "StorageUnavailableError",
]


class StorageError(Exception):
    """The parent of every error that this library raises about a storage.

    Attributes:
        namespace: The namespace concerned, None where there is none.
        id: The id concerned, None where there is none or there are several.
        unconfirmed_ids: The ids of a batch that may or may not have been written or deleted when
            it failed. Writing them again is safe. Empty for everything but a batch.
    """

    namespace: str | None
    id: str | None
    unconfirmed_ids: tuple[str, ...]

    def __init__(
        self,
        message: str,
        *,
        namespace: str | None = None,
        id: str | None = None,
        unconfirmed_ids: Iterable[str] = (),
    ) -> None:
        # It holds what others wrote: ids, file names, a server's own words.
        super().__init__(visible(message, lines=True))
        self.namespace = namespace
        self.id = id
        self.unconfirmed_ids = tuple(unconfirmed_ids)


class StorageUnavailableError(StorageError, ConnectionError):
    """No server could be reached, retries included.

    Check that the server of ``redis_url`` is up and that this machine may reach it. A write that
    failed so may be repeated.
    """


class CircuitOpenError(StorageUnavailableError):
    """The call was refused at once: the calls before it found no server.

    Nothing was sent. The breaker closes by itself as soon as the server answers again.
    """


class StorageTimeoutError(StorageUnavailableError, TimeoutError):
    """No answer came within ``redis_operation_timeout``: whether the call took effect is unknown.

    Reading and writing again is safe. After a delete, look whether the id is still there.
    """


class StorageOperationError(StorageError):
    """The server answered with an error: a key of another type, out of memory, read-only, no right.

    The message holds the server's own; the cure is at the server or in the rights of the user.
    """


class StorageAuthError(StorageError):
    """One side did not accept who the other is: a refused password, a certificate that will not do.

    Check ``redis_username`` and ``redis_password``, or their place in ``redis_url``; with TLS what
    the message names. It is not tried again, and does not count as an outage: a server is there.
    """


class StorageSerializationError(StorageError, TypeError):
    """A value cannot be stored as JSON; nothing of its batch was written.

    Turn what the message names (a set, bytes, an object, a lone surrogate, too deep a nesting)
    into plain JSON data first.
    """


class CorruptValueError(StorageError, ValueError):
    """What lies under an id is no JSON document. It is never taken for "absent".

    Find out who wrote it; delete the id, or write it again, to go on.
    """


class JsonFileError(StorageError, ValueError):
    """A JSON file of the host cannot be read or written: damaged, cut short, changing, disk full.

    The message names the file, and the byte where there is one. A file that the host is writing at
    that moment is whole again when it is done: try again.
    """


class StorageConfigError(StorageError, ValueError):
    """A setting is unknown, wrong or not supported here. The message names it and its value."""


class DurabilityError(StorageError):
    """Fewer servers than ``redis_durability`` asks for confirmed the writes before the callback.

    The writes were acknowledged and may yet be lost; write again, or lower what is asked for.

    Attributes:
        wanted: What ``redis_durability`` asks for: ``fsync+replicas:2``.
        achieved: What there is, in the same words: ``fsync+replicas:1``, or ``ack`` for nothing
            beyond the acknowledgement.
        unconfirmed_ids: The ids of this namespace whose last write or deletion was lost by a server
            that was restarted or replaced. Empty where nothing is known to be lost.
    """

    wanted: str
    achieved: str

    def __init__(
        self, message: str, *, wanted: str = "", achieved: str = "", **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.wanted = wanted
        self.achieved = achieved


class StorageClosedError(StorageError):
    """The storage was used after its ``close()``. Make a new one."""
