"""The holder: a process that uses a directory's server and does nothing else.

So the server goes on while no application uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nano_graphrag_redis.embedded import supervisor
from nano_graphrag_redis.embedded.join_and_leave import (
    acquire,
    keep_watch,
    release,
    try_lock,
)
from nano_graphrag_redis.embedded.socket_paths import socket_path
from nano_graphrag_redis.exceptions import (
    StorageConfigError,
    StorageError,
    StorageUnavailableError,
)

_LOCK = "keeper.lock"
"""Held by the holder. The process id in it is for people: a number on paper may by now be another
process's, and in a container that shares the directory it is."""
_DISMISSAL = "keeper.stop"
"""A pipe that the holder reads: whoever writes to it lets the holder go, in any container."""
_POLL_INTERVAL = 0.02
_PATIENCE = 30.0
"""Seconds that a server may take to end."""
_WILL_NOT_DO = 2
"""Exit code of a holder that was refused its settings."""
_PROGRAM = "import sys; from nano_graphrag_redis.embedded.holder import keep; keep(sys.argv[1])"


def leave_holder(home: Path) -> None:
    """Starts the server of a directory, if need be, and leaves a holder behind, if there is none.

    Args:
        home: The directory, resolved; made when missing.

    Raises:
        StorageConfigError: The directory, the server program or its version will not do.
        StorageUnavailableError: The server does not start; the message says why.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_kept(home):
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
        reason = started.stderr.strip() or "no reason given"
        kind = StorageConfigError if started.returncode == _WILL_NOT_DO else StorageUnavailableError
        raise kind(f"no keeper for embedded://{home}: {reason}")


def keep(directory: str) -> None:
    """What the holder runs: it is on its own, and the server answers, once this process ends."""
    home = Path(directory)
    lock = try_lock(home / _LOCK, fcntl.LOCK_EX)
    if lock is None:
        return  # somebody else was quicker
    try:
        acquire(home)
    except StorageError as error:
        sys.stderr.write(str(error))
        sys.exit(_WILL_NOT_DO if isinstance(error, StorageConfigError) else 1)
    pipe = _make_pipe(home)
    # Until there is someone to hear it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # The child has the locks too: they belong to the descriptors.
    child = os.fork()
    if child:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(child).encode(), 0)
        os._exit(0)
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a descriptor is wanted
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
    keep_watch()
    _await_dismissal(pipe)
    release(home)


def _make_pipe(home: Path) -> int:
    path = home / _DISMISSAL
    path.unlink(missing_ok=True)  # of a holder that was killed
    os.mkfifo(path, 0o600)
    # Open for writing too, so that a reader waits for a byte and not for a writer.
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _await_dismissal(pipe: int) -> None:
    """Returns when someone writes to the pipe, or at SIGTERM from who knows this process."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wake)  # written to by the signal, so that none is missed
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    select.select([pipe, woken], [], [])


def dismiss_holder(home: Path) -> bool:
    """Ends the holder of a directory, if there is one; True once its server does not run.

    False: it is used by others, or takes very long to end.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if is_kept(home):
            # Again and again: one that is starting has no pipe yet.
            _dismiss(home)
        else:
            if not facts_of(home):
                return True
            if _has_members(home):
                return False
        time.sleep(_POLL_INTERVAL)
    return False


def _dismiss(home: Path) -> None:
    with contextlib.suppress(OSError):
        pipe = os.open(home / _DISMISSAL, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                os.write(pipe, b".")
        finally:
            os.close(pipe)


def is_kept(home: Path) -> bool:
    """Whether a directory has a holder."""
    path = home / _LOCK
    if not path.exists():
        return False
    lock = try_lock(path, fcntl.LOCK_SH)
    if lock is not None:
        os.close(lock)
        return False
    return True


def holder_of(home: Path) -> int | None:
    """The process id that a directory's holder has where it runs; None while that is not known."""
    if not is_kept(home):
        return None
    written = (home / _LOCK).read_text(errors="replace")  # empty while it starts
    return int(written) if written.isdecimal() else None


def facts_of(home: Path) -> Mapping[str, str]:
    """What the server of a directory says about itself, as in INFO; empty if it does not run."""
    try:
        text = supervisor.ask(str(socket_path(home)), b"INFO server").decode(errors="replace")
    except OSError:
        return {}
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    asked = ("process_id", "uptime_in_seconds")
    known = "redis_version" in facts and all(facts.get(name, "").isdecimal() for name in asked)
    return facts if known else {}


def _has_members(home: Path) -> bool:
    path = home / supervisor.MEMBERS_LOCK
    for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        lock = try_lock(path, kind)
        if lock is not None:
            os.close(lock)
            # Members share it; nobody holds it alone but the guardian, which is ending the server.
            return kind == fcntl.LOCK_SH
    return False
