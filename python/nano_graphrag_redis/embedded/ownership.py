"""Whose a directory is, and the server in it: what is written there is for its user alone."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from nano_graphrag_redis.embedded.supervisor import SOCKET
from nano_graphrag_redis.exceptions import StorageConfigError


def check_ours(home: Path) -> None:
    """Returns if the directory, and the socket in it, are this user's alone.

    Root may open anybody's, and so would write its documents into another user's server.

    Args:
        home: The directory, resolved and existing.

    Raises:
        StorageConfigError: They are not.
    """
    found, user = home.stat(), os.geteuid()
    if found.st_uid != user:
        raise _refused(home, f"belongs to another user (uid {found.st_uid}, this is uid {user})")
    if found.st_mode & stat.S_IWOTH:
        raise _refused(home, "may be written by everybody (chmod o-w)")
    with contextlib.suppress(FileNotFoundError):
        owner = (home / SOCKET).lstat().st_uid
        if owner != user:
            raise _refused(home, f"holds the socket of another user's server (uid {owner})")


def _refused(home: Path, why: str) -> StorageConfigError:
    return StorageConfigError(
        f"REDIS_URL=embedded://{home} {why}: whoever that is could read and change what is stored. "
        "Name a directory of this user's own, or run as the user whose it is"
    )
