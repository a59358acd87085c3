"""How a member starts the supervisor of a directory."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nano_graphrag_redis.embedded import supervisor
from nano_graphrag_redis.embedded.server_binary import find_server
from nano_graphrag_redis.embedded.server_version import check_readable
from nano_graphrag_redis.exceptions import StorageConfigError, StorageUnavailableError

LOG = "server.log"
_LOG_LINES = 10
"""How many of the log's last lines an error shows."""

_SERVER_SETTINGS = {
    "port": "0",
    "unixsocket": supervisor.SOCKET,
    "unixsocketperm": "700",
    "daemonize": "no",
    "logfile": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}


def server_command(home: Path) -> list[str]:
    """The server for ``home`` and its arguments; writes nothing.

    Raises:
        StorageConfigError: There is no server, or none that reads the files of ``home``.
    """
    binary = find_server()
    check_readable(home, binary)
    options = [part for name, value in _SERVER_SETTINGS.items() for part in (f"--{name}", value)]
    return [str(binary), *options]


def start_supervisor(home: Path, lock: int, command: Sequence[str]) -> None:
    """Starts the supervisor of ``home`` and returns once it is on its own.

    It runs in a session of its own, is no child of this process, and writes to the log alone.

    Args:
        home: The directory to guard.
        lock: Descriptor of the supervisor's lock, held; the supervisor keeps it until it ends.
        command: What ``server_command`` gave; empty for a server that runs and lost its supervisor.

    Raises:
        StorageConfigError: There is no Python to run it.
        StorageUnavailableError: It does not start, as where the system gives no process.
    """
    python = _python()
    with (home / LOG).open("ab") as log:
        started = subprocess.run(
            # -I -S: neither the environment's nor the site's Python settings concern it.
            [python, "-I", "-S", supervisor.__file__, *command],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
            check=False,
        )
    if started.returncode:
        raise StorageUnavailableError(
            f"{python} cannot run the guardian of embedded://{home}: {log_tail(home)}"
        )


def log_tail(home: Path) -> str:
    """The last lines that the server, or its supervisor, has logged in ``home``."""
    try:
        lines = (home / LOG).read_text(errors="replace").splitlines()
    except OSError as error:
        return f"no log: {error.strerror}"
    return "\n".join(lines[-_LOG_LINES:])


def _python() -> str:
    """A Python for the guardian: ``sys.executable`` is none under uWSGI or in a frozen program."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    beside = (f"{prefix}/bin/{name}" for prefix in (sys.prefix, sys.base_prefix))
    for candidate in (sys.executable, *beside, name, "python3"):
        found = shutil.which(candidate or "")
        if found and re.match(r"python|pypy", Path(found).name):
            return found
    raise StorageConfigError(
        f"REDIS_URL=embedded://... needs a Python beside this program ({sys.executable}) to guard "
        "its server: put python3 on PATH, or set REDIS_URL to a running server"
    )
