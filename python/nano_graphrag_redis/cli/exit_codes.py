"""Exit codes, which scripts can rely on."""

from __future__ import annotations

from enum import IntEnum

from nano_graphrag_redis.exceptions import (
    StorageAuthError,
    StorageConfigError,
    StorageError,
    StorageUnavailableError,
)


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FOUND = 1
    """It ran and found a problem: an error, a difference, a missing id."""
    USAGE = 2
    """Wrong usage or settings: an option, a setting, a refused login, a confirmation not given."""
    NO_SERVER = 3
    """The server could not be reached, or did not answer."""
    FAILED = 4
    """The server, a file or a value prevented the operation."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = 141
    """Whoever read the output left, as `head` does."""


def exit_of(error: Exception) -> Exit:
    """The exit code for an error."""
    if isinstance(error, (StorageConfigError, StorageAuthError)):
        return Exit.USAGE
    if isinstance(error, StorageUnavailableError):
        return Exit.NO_SERVER
    if isinstance(error, (StorageError, OSError)):
        return Exit.FAILED
    raise error
