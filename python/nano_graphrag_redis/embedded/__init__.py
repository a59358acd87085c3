"""The private server of a directory, for ``REDIS_URL=embedded://DIRECTORY``.

All processes that name the directory share one server on a Unix socket; it stops when the last of
them leaves. In reading order:

- ``join_and_leave``: ``acquire`` and ``release``, by which a process joins and leaves a directory;
  ``keep_watch``, by which it replaces what was killed meanwhile
- ``supervisor``: the small process that runs the server and stops it after the last member
- ``launch``: how a member starts a supervisor
- ``server_binary``: which server binary is run, and where it is found
- ``server_version``: which server wrote the files, and which may read them
- ``holder``: a member that only keeps the server running, for ``server start``
- ``shortages``: which errors of the system pass
- ``ownership``: checks that the directory belongs to this user alone
- ``socket_paths``: the path of the socket, however long the directory's name
"""

from __future__ import annotations

import sys

from nano_graphrag_redis.exceptions import StorageConfigError

if sys.platform == "win32":
    raise StorageConfigError(
        "REDIS_URL=embedded://... needs unix sockets and file locks, which Windows has not: "
        "set REDIS_URL to a running server"
    )

from nano_graphrag_redis.embedded.join_and_leave import acquire, keep_watch, release
from nano_graphrag_redis.embedded.socket_paths import socket_path

__all__ = ["acquire", "keep_watch", "release", "socket_path"]
