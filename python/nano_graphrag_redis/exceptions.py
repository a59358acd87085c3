"""The exceptions of this library, in one hierarchy.

Each takes one message, which names the setting, namespace or id concerned and says what to do.
Details are attributes, because an ``OSError`` would take a second argument for its ``errno``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .printable import visible

__all__ = [
    "CircuitOpenError",
    "CorruptValueError",
    "DurabilityError",
    "JsonFileError",
    "StorageAuthError",
    "StorageClosedError",
    "StorageConfigError",
    "StorageError",
    "StorageMemoryError",
    "StorageOperationError",
    "StorageSerializationError",
    "StorageTimeoutError",
    "StorageUnavailableError",
]


class StorageError(Exception):
    """Base class of every error that this library raises about a storage.

    Attributes:
        namespace: The namespace concerned, or None.
        id: The id concerned; None if there is none or more than one.
        unconfirmed_ids: The ids of a failed batch that may or may not have been written or
            deleted. It is safe to write them again. Empty for anything but a batch.
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
    """The server could not be reached, even after retries.

    Check that the server in ``redis_url`` is up and reachable from this machine. It is safe to
    repeat a write that failed with this error.
    """


class CircuitOpenError(StorageUnavailableError):
    """The circuit breaker is open, because the calls before this one found no server.

    Nothing was sent. The breaker closes by itself as soon as the server answers again.
    """


class StorageTimeoutError(StorageUnavailableError, TimeoutError):
    """No reply within ``redis_operation_timeout``; it is unknown whether the call took effect.

    It is safe to read or write again. After a delete, check whether the id still exists.
    """


class StorageOperationError(StorageError):
    """The server replied with an error: wrong type, out of memory, read-only, no permission.

    The message includes the server's text. Fix the server, or the user's permissions.
    """


class StorageAuthError(StorageError):
    """Authentication failed: the server refused the credentials, or one side a certificate.

    Check ``redis_username`` and ``redis_password``, or the credentials in ``redis_url``; with TLS,
    check what the message names. The call is not retried, and does not count as an outage, because
    the server is reachable.
    """


class StorageSerializationError(StorageError, TypeError):
    """A value cannot be represented as JSON; nothing in its batch was written.

    Convert what the message names (a set, bytes, an object, a lone surrogate, too deep a nesting)
    to plain JSON data first.
    """


class CorruptValueError(StorageError, ValueError):
    """The bytes stored under an id are not a JSON document. They are never treated as missing.

    Find out who wrote them. To recover, delete the id or write it again.
    """


class JsonFileError(StorageError, ValueError):
    """A JSON file of the host cannot be read or written: damaged, truncated, changing, disk full.

    The message names the file and, where there is one, the byte offset. If the host was writing
    the file at that moment, try again.
    """


class StorageMemoryError(StorageError, MemoryError):
    """There is no memory for a value, a batch or what was read of a file. The storage stays usable.

    Raise the limit of memory, or read and write less at once.
    """


class StorageConfigError(StorageError, ValueError):
    """A setting is unknown, invalid or not supported. The message names it and its value."""


class DurabilityError(StorageError):
    """The writes before ``index_done_callback`` fall short of the level in ``redis_durability``.

    The writes were acknowledged, but a crash may still lose them. Write again, or lower the level.

    Attributes:
        wanted: The level in ``redis_durability``, such as ``fsync+replicas:2``.
        achieved: The level reached, in the same form: ``fsync+replicas:1``, or ``ack`` for nothing
            beyond the acknowledgement.
        unconfirmed_ids: The ids of this namespace that do not show this process's last write or
            deletion on a server that was restarted or replaced: it was lost, or another process has
            changed the id since. Empty if all is there.
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
    """The storage was used after ``close()``: create a new one. Or the interpreter is exiting.

    An exit handler that uses a storage has to be registered after this package was imported.
    """
