"""The guardian: one small process per directory that runs its server and ends it after its members.

It is started as a file, with the directory as its working directory, and needs the standard
library alone: it stays light whatever the application has imported, and any Python can run it.

Three lock files decide everything, since the kernel releases them however a process ends:

- ``members.lock``: shared by every process that uses the directory. Whoever holds it alone knows
  that all of them have left.
- ``guardian.lock``: held by the supervisor. It is handed over by the member that started it, so
  between "there is no supervisor" and "there is one" nobody else can come.
- ``server.lock``: held by the server itself, which inherits it. It outlives a killed supervisor, so
  a second server never starts beside one that still runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

MEMBERS_LOCK = "members.lock"
GUARDIAN_LOCK = "guardian.lock"
SERVER_LOCK = "server.lock"
SOCKET = "redis.sock"

PONG = b"+PONG"

_ANSWER_TIMEOUT = 1.0
"""Seconds a server may take for one answer before it counts as not answering."""
_LONGEST = 1 << 20
"""Bytes of an answer that a server of ours gives at most."""
_POLL_INTERVAL = 0.05
"""Seconds between two questions to a server that is starting."""
_STARTS = 3
"""Starts of a server that is killed before its first answer."""


def open_lock(path: str | os.PathLike[str]) -> int:
    """Opens a lock file, made if need be; the descriptor is not inherited by other programs."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def ask(path: str, command: bytes) -> bytes:
    """The server's answer to an inline command: its first line, or the text of a bulk reply.

    Raises:
        OSError: Nobody answers there.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_TIMEOUT)
        connection.connect(path)
        connection.sendall(command + b"\r\n")
        with connection.makefile("rb") as reply:
            line = reply.readline(_LONGEST).rstrip()
            if not line.startswith(b"$"):
                return line
            length = line[1:]
            if not length.isdigit() or int(length) > _LONGEST:
                raise OSError("no answer of a server")
            return reply.read(int(length))


def answers(path: str) -> bool:
    """Whether a server is there and ready."""
    try:
        return ask(path, b"PING") == PONG
    except OSError:
        return False


class Supervisor:
    """Runs the server for as long as there are members.

    Args:
        command: The server and its arguments; empty to end a server that lost its supervisor, once
            its members have left.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._mutex = threading.Lock()
        self._deserted = False
        self._killed = 0
        self._server: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Returns after the last member has left, or when the server does not start."""
        threading.Thread(target=self._stop_after_the_last_member, daemon=True).start()
        while (server := self._start()) and self._came_up(server):
            server.wait()

    def _start(self) -> subprocess.Popen[bytes] | None:
        lock = open_lock(SERVER_LOCK)
        try:
            # Granted at once, unless a server outlived its supervisor: then that one serves on.
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._mutex:
                if self._deserted or not self._command:
                    return None
                self._server = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, pass_fds=[lock]
                )
                return self._server
        finally:
            os.close(lock)

    def _came_up(self, server: subprocess.Popen[bytes]) -> bool:
        """False for a server that ended without a single answer: another start would end so too.

        One that was killed gets a few more starts.
        """
        while server.poll() is None:
            if answers(SOCKET):
                self._killed = 0
                return True
            time.sleep(_POLL_INTERVAL)
        self._killed += 1
        return server.returncode < 0 and self._killed < _STARTS

    def _stop_after_the_last_member(self) -> None:
        # Never closed: newcomers wait until this process is gone, and its server with it.
        fcntl.flock(open_lock(MEMBERS_LOCK), fcntl.LOCK_EX)
        with self._mutex:
            self._deserted = True
            if self._server is not None:
                self._server.terminate()
            else:
                # Not a child of ours, and a process id on paper may by now be someone else's.
                ask(SOCKET, b"SHUTDOWN NOSAVE")


def main() -> None:
    """Detaches from the member that started us, then guards the working directory."""
    if os.fork():
        os._exit(0)
    # The members decide when we end. A terminal's Ctrl-C, or a service manager that signals
    # every process of a service at once, would take the server from members that still save.
    # A handler, not SIG_IGN: the server would inherit that, and be deaf to us while it starts.
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: None)
    # What the thread that started us has blocked would be blocked for the server too.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    Supervisor(sys.argv[1:]).run()


if __name__ == "__main__":
    main()
