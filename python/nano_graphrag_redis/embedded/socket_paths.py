"""Where a directory's socket is, however long the directory's name.

The kernel takes about a hundred bytes for the path of a unix socket, and a URL no path that is not
UTF-8. The socket itself always lies in the directory; where its path will not do, the way to it
goes through a short link in a private runtime directory. So whoever removes the link (a cleaner of
/tmp, say) removes no socket, and processes with different runtime directories still meet at one
server.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from nano_graphrag_redis.embedded.supervisor import SOCKET
from nano_graphrag_redis.exceptions import StorageConfigError

MAX_SOCKET_PATH = 100
"""Bytes; the limit is 107 on Linux and 103 on macOS."""
POINTER = "redis.sock.path"
"""The file that names the short path, for those who look for the socket with redis-cli."""


def socket_path(directory: Path) -> Path:
    """The path at which the server of ``directory`` is reached; opens and makes nothing.

    The same directory gives the same path, whether named relatively, absolutely or through a link.
    """
    home = directory.resolve()
    if _fits(home / SOCKET):
        return home / SOCKET
    return _link(home) / SOCKET


def make_reachable(home: Path) -> None:
    """Makes the link and the pointer file that a long path needs.

    Args:
        home: The directory, resolved and existing.

    Raises:
        StorageConfigError: The runtime directory is not ours alone.
    """
    path = socket_path(home)
    if path.parent == home:
        return
    _make_private(path.parent.parent)
    if not (path.parent.is_symlink() and path.parent.readlink() == home):
        draft = Path(tempfile.mkdtemp(dir=path.parent.parent)) / "link"
        draft.symlink_to(home)
        draft.replace(path.parent)
        draft.parent.rmdir()
    pointer = home / POINTER
    if not pointer.exists() or pointer.read_text() != f"{path}\n":
        pointer.write_text(f"{path}\n")


def _link(home: Path) -> Path:
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    places = [os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR"), "/tmp"]  # noqa: S108 - made private
    links = [Path(p, f"nano-graphrag-redis-{os.geteuid()}", name) for p in places if p]
    return next((link for link in links if _fits(link / SOCKET)), links[-1])


def _fits(path: Path) -> bool:
    try:
        name = str(path).encode()
    except UnicodeEncodeError:  # it stands in a URL, which is text
        return False
    return path.is_absolute() and len(name) <= MAX_SOCKET_PATH


def _make_private(directory: Path) -> None:
    """Whoever may write here could lead us to a server of their own."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise StorageConfigError(
            f"the runtime directory {directory} cannot be made ({error.strerror}): set "
            "XDG_RUNTIME_DIR to a directory of yours, or shorten the path in REDIS_URL"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StorageConfigError(
            f"the runtime directory {directory} is not a directory of this user alone (mode 0700): "
            "remove it, or set XDG_RUNTIME_DIR to a directory of yours"
        )
