"""Exit codes: what a script may rely on."""

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
    """It worked, and found what it looks for: an error, a difference, an id that is not there."""
    USAGE = 2
    """It was not asked right: an option, a setting, a refused login, an answer not given."""
    NO_SERVER = 3
    """The server could not be reached, or did not answer."""
    FAILED = 4
    """The server, a file or a value stood in the way."""
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
