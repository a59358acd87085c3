"""A private server for one directory: what ``REDIS_URL=embedded://DIRECTORY`` stands for.

Every process that names the directory shares one server on a unix socket; the last one out ends
it. In reading order:

- ``members``: ``acquire`` and ``release``, a process's part in a directory
- ``guardian``: the small process that runs the server and ends it after the last member
- ``launch``: how a member starts a guardian
- ``binaries``: which server is run, and where it is found
- ``versions``: which server wrote the files, and which may read them
- ``keeper``: a member that does nothing else, for ``server start``
- ``ownership``: that the directory is this user's alone
- ``sockets``: where the socket is, however long the directory's name
"""

from __future__ import annotations

import sys

from nano_graphrag_redis.exceptions import StorageConfigError

if sys.platform == "win32":
    raise StorageConfigError(
        "REDIS_URL=embedded://... needs unix sockets and file locks, which Windows has not: "
        "set REDIS_URL to a running server"
    )

from nano_graphrag_redis.embedded.members import acquire, release
from nano_graphrag_redis.embedded.sockets import socket_path

__all__ = ["acquire", "release", "socket_path"]
