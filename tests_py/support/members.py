"""Members of an embedded directory as what they are: processes of their own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nano_graphrag_redis import embedded

DEADLINE = 20.0
"""Seconds in which everything that a test waits for has to happen."""

_MEMBER = """
import sys
from pathlib import Path
from nano_graphrag_redis import embedded

embedded.acquire(Path(sys.argv[1]))
print("joined", flush=True)
sys.stdin.read()
"""


class Member:
    """A Python process that joins a directory and stays until it is told, or killed.

    Args:
        directory: As it is written in the URL; may be relative to ``cwd``.
        environment: Changes to the environment.
        script: What to run instead of joining and staying; ``sys.argv[1]`` is the directory.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        script: str = _MEMBER,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-X", "dev", "-c", script, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id, which is that of its session too."""
        return self._process.pid

    def join(self) -> Member:
        """Returns when the process has joined."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "joined\n", self.end()
        return self

    def end(self) -> tuple[int, str, str]:
        """Lets the process end by itself: its exit code, output and errors."""
        out, err = self._process.communicate(timeout=DEADLINE)
        return self._process.returncode, out, err

    def leave(self) -> None:
        """Lets the process end by itself, without a word."""
        assert self.end() == (0, "", "")

    def kill(self) -> None:
        """Ends the process, and what it has forked, as a crash would."""
        if self._process.returncode is None:  # not waited for, so the number is still its own
            os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()


def client(directory: Path) -> redis.Redis:
    """A redis-py client of the directory's server."""
    return redis.Redis(
        unix_socket_path=str(embedded.socket_path(directory)), retry=Retry(NoBackoff(), 0)
    )


def server_pid(directory: Path) -> int:
    """The process id of the directory's server."""
    with client(directory) as connection:
        return int(connection.info("server")["process_id"])


def parent(pid: int) -> int:
    """The process id of a process's parent."""
    found = subprocess.run(
        ["ps", "-o", "ppid=", "-p", str(pid)], check=True, capture_output=True, text=True
    )
    return int(found.stdout)


def guardian_pid(directory: Path) -> int:
    """The process id of the guardian, which is the parent of its server."""
    return parent(server_pid(directory))


def kill(pid: int) -> None:
    """Ends a process as a crash would; returns when it runs no more."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and only waits for its parent does not."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return found.stdout.strip()[:1] not in ("", "Z")


def is_locked(lock: Path) -> bool:
    """Whether any process holds a lock file."""
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def is_answering(directory: Path) -> bool:
    """Whether the directory's server answers."""
    with client(directory) as connection:
        try:
            return bool(connection.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for a condition; a condition that does not come about is a failure."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
