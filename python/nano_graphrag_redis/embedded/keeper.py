"""The keeper: a process that uses a directory's server and does nothing else.

So the server goes on while no application uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nano_graphrag_redis.embedded import guardian
from nano_graphrag_redis.embedded.members import acquire, release, try_lock
from nano_graphrag_redis.embedded.sockets import socket_path
from nano_graphrag_redis.exceptions import StorageUnavailableError

_LOCK = "keeper.lock"
"""Held by the keeper, whose process id is in it."""
_POLL_INTERVAL = 0.02
_PATIENCE = 30.0
"""Seconds that a server may take to end."""
_PROGRAM = "import sys; from nano_graphrag_redis.embedded.keeper import keep; keep(sys.argv[1])"


def leave_keeper(home: Path) -> None:
    """Starts the server of a directory, if need be, and leaves a keeper behind, if there is none.

    Args:
        home: The directory, resolved; made when missing.

    Raises:
        StorageUnavailableError: The server does not start; the message says why.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if keeper_of(home) is not None:
        return
    started = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(home)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        check=False,
        text=True,
    )
    if started.returncode:
        *_, reason = started.stderr.strip().splitlines() or ["no reason given"]
        raise StorageUnavailableError(f"no keeper for embedded://{home}: {reason}")


def keep(directory: str) -> None:
    """What the keeper runs: it is on its own, and the server answers, once this process ends."""
    home = Path(directory)
    lock = try_lock(home / _LOCK, fcntl.LOCK_EX)
    if lock is None:
        return  # somebody else was quicker
    acquire(home)
    # The child has the locks too: they belong to the descriptors.
    child = os.fork()
    if child:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(child).encode(), 0)
        os._exit(0)
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a descriptor is wanted
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
    # Blocked, and then waited for: a signal between a look and a wait would be missed.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.sigwait({signal.SIGTERM})
    release(home)


def dismiss_keeper(home: Path) -> bool:
    """Ends the keeper of a directory, if there is one; True once its server does not run.

    False: it is used by others, or takes very long to end.
    """
    keeper = keeper_of(home)
    if keeper is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if keeper_of(home) is None:
            if not facts_of(home):
                return True
            if _has_members(home):
                return False
        time.sleep(_POLL_INTERVAL)
    return False


def keeper_of(home: Path) -> int | None:
    """The process id of a directory's keeper; None without one."""
    path = home / _LOCK
    if not path.exists():
        return None
    lock = try_lock(path, fcntl.LOCK_SH)
    if lock is not None:
        os.close(lock)
        return None
    # Empty while it starts.
    return int(path.read_text() or 0) or None


def facts_of(home: Path) -> Mapping[str, str]:
    """What the server of a directory says about itself, as in INFO; empty if it does not run."""
    try:
        text = guardian.ask(str(socket_path(home)), b"INFO server").decode()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _has_members(home: Path) -> bool:
    path = home / guardian.MEMBERS_LOCK
    for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        lock = try_lock(path, kind)
        if lock is not None:
            os.close(lock)
            # Members share it; nobody holds it alone but the guardian, which is ending the server.
            return kind == fcntl.LOCK_SH
    return False
