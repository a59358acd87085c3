"""Which errors of the system pass, and say nothing against a directory or a program."""

from __future__ import annotations

import errno

_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
    }
)


def passes(error: OSError) -> bool:
    """Whether the system has none left now of what was asked for, or could not get at it."""
    return error.errno in _PASSING
