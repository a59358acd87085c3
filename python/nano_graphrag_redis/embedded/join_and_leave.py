"""A process's part in an embedded directory: join its server or start it, and leave."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

from nano_graphrag_redis import threads
from nano_graphrag_redis.embedded import supervisor
from nano_graphrag_redis.embedded.launch import log_tail, server_command, start_supervisor
from nano_graphrag_redis.embedded.ownership import check_ours
from nano_graphrag_redis.embedded.server_version import from_info, process_id, record
from nano_graphrag_redis.embedded.shortages import passes
from nano_graphrag_redis.embedded.socket_paths import make_reachable, socket_path
from nano_graphrag_redis.exceptions import (
    StorageConfigError,
    StorageError,
    StorageUnavailableError,
)
from nano_graphrag_redis.process_exit import at_exit

START_TIMEOUT = 30.0
"""Seconds without any answer until a server counts as not starting; "loading" is an answer."""
_POLL_INTERVAL = 0.01
"""Seconds between two looks at a server that is starting or ending."""
_END_TIMEOUT = 5.0
"""Seconds that the server of a removed directory is waited for; others may still be its members."""

_WATCH_EVERY = 1.0
"""Seconds between two looks at whether a directory still has its guardian."""
_LONGEST_PAUSE = 60.0
"""Seconds at most between two starts of a guardian whose server does not come up."""

_members: dict[Path, Member] = {}
_mutex = threading.Lock()
_left = threading.Condition(_mutex)
"""Told when this process is a member of nothing any more."""
_watcher: threading.Thread | None = None


def acquire(directory: Path) -> None:
    """Joins the server of ``directory``, or starts it; blocks until it answers.

    Each call wants one ``release``. A process that ends without it, however it ends, has left.
    A server that has crashed since an earlier call is started again.

    Args:
        directory: The same directory is the same server by any of its names. A relative one is
            taken from the current working directory, so resolve it once if that may change.

    Raises:
        StorageConfigError: The directory, the server program or its version will not do.
        StorageUnavailableError: The server does not start; the message ends with its log.
    """
    home = directory.resolve()
    with _mutex:
        member = _members.setdefault(home, Member(home))
        member.holders += 1
    try:
        member.wait_for_server()
    except BaseException as error:
        release(home)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            if passes(error):
                raise StorageUnavailableError(
                    f"the server of embedded://{home} cannot be started or joined now: {error}"
                ) from error
            raise StorageConfigError(
                f"REDIS_URL=embedded://{home} cannot be used ({error}): "
                "name a directory on a local disk that this user may write"
            ) from error
        raise


def release(directory: Path) -> None:
    """Takes one ``acquire`` back; a directory that is not held is left alone."""
    home = directory.resolve()
    with _mutex:
        member = _members.get(home)
        if member is None:
            return
        member.holders -= 1
        if not member.holders:
            del _members[home]
            member.leave()
            if not _members:
                _left.notify_all()


def keep_watch() -> None:
    """Has a thread bring a guardian, and by it the server, wherever both were killed.

    It ends once this process is a member of nothing. A forked child has none before it asks for it.
    Where the system gives no thread, a directory gets its guardian with the next newcomer.
    """
    global _watcher
    with _mutex:
        if _watcher is None and _members:
            _watcher = threads.started(_watch, "nano-graphrag-redis-embedded")


def _watch() -> None:
    global _watcher
    with _left:
        while _members:
            for member in _members.values():
                member.call_a_guardian()
            _left.wait(_WATCH_EVERY)
        _watcher = None


class Member:
    """This process as a member of one directory.

    Args:
        home: The directory, resolved.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.holders = 0
        self._lock: int | None = None
        self._server: int | None = None
        """The process id of the server that was joined."""
        self._end_until = 0.0
        self._pause = _WATCH_EVERY
        self._call_after = 0.0

    def wait_for_server(self) -> None:
        """Returns when the server answers and this process is among its members."""
        deadline = time.monotonic() + START_TIMEOUT
        started = False
        while time.monotonic() < deadline:
            with _mutex:
                joined = self._join()
                if joined:
                    started = self._start_if_unguarded(again=started) or started
            answer = self._ask(b"PING") if joined else b""
            if answer == supervisor.PONG and (info := self._ask(b"INFO server")):
                record(self.home, from_info(info.decode()))
                self._server = process_id(info.decode())
                return
            if answer.startswith(b"-LOADING"):
                deadline = time.monotonic() + START_TIMEOUT
            time.sleep(_POLL_INTERVAL)
        raise self._unavailable(f"has not answered for {START_TIMEOUT:.0f} s")

    def leave(self) -> None:
        """Ends the membership; with it the server, if no other process is a member."""
        self.leave_a_guardian()
        if self._lock is not None:
            # Closed, never unlocked: a forked process shares this very lock and goes on.
            os.close(self._lock)
            self._lock = None

    def leave_a_guardian(self) -> None:
        """Sees to it that somebody will end the server, should its supervisor have been killed."""
        if self._lock is None:
            return  # it has not joined: there is no server that it would leave
        with contextlib.suppress(OSError, StorageConfigError):
            lock = try_lock(self.home / supervisor.GUARDIAN_LOCK, fcntl.LOCK_EX)
            if lock is None:
                return
            try:
                if self._ask(b"PING"):
                    start_supervisor(self.home, lock, ())
            finally:
                os.close(lock)

    def call_a_guardian(self) -> None:
        """Starts another guardian should it have been killed, and by it the server if that is gone.

        What does not start is tried again after pauses that grow.
        """
        if self._server is None or time.monotonic() < self._call_after:
            return
        called = True
        with contextlib.suppress(Exception):  # the watch goes on
            called = self._is_member() and self._start_if_unguarded(again=False)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) if called else _WATCH_EVERY
        self._call_after = time.monotonic() + self._pause

    def _is_member(self) -> bool:
        """False where the directory of the lock that is held was removed, too."""
        if self._lock is None:
            return False
        try:
            found = (self.home / supervisor.MEMBERS_LOCK).stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(self._lock), found)

    def _join(self) -> bool:
        """True with this process among the members, False while a supervisor ends the server."""
        path = self.home / supervisor.MEMBERS_LOCK
        if self._is_member():
            return True
        if self._lock is not None:
            # Somebody removed the directory: what we hold is a lock on nothing. Its server goes on
            # until it is missed, and this process's connections would go on writing to it.
            os.close(self._lock)
            self._lock = None
            self._end_until = time.monotonic() + _END_TIMEOUT
        if time.monotonic() < self._end_until and _is_running(self._server):
            return False
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_ours(self.home)
        self._lock = try_lock(path, fcntl.LOCK_SH)
        return self._lock is not None

    def _start_if_unguarded(self, *, again: bool) -> bool:
        lock = try_lock(self.home / supervisor.GUARDIAN_LOCK, fcntl.LOCK_EX)
        if lock is None:
            return False
        try:
            if again:
                raise self._unavailable("ended before it answered")
            start_supervisor(self.home, lock, server_command(self.home))
            return True
        finally:
            os.close(lock)

    def _ask(self, command: bytes) -> bytes:
        """The server's answer, empty while there is none."""
        make_reachable(self.home)
        if self._lock is not None:
            check_ours(self.home)  # the socket may have come meanwhile
        try:
            return supervisor.ask(str(socket_path(self.home)), command)
        except OSError:
            return b""

    def _unavailable(self, what: str) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"the server of embedded://{self.home} {what}: see the end of its log\n"
            f"{log_tail(self.home)}"
        )


def _is_running(process: int | None) -> bool:
    if process is None:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):  # another user's may have got the number
        return False
    return True


def try_lock(path: Path, kind: int) -> int | None:
    """The descriptor of a lock file, locked; None when others hold it."""
    lock = supervisor.open_lock(path)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return lock


def _leave_no_server_unguarded() -> None:
    """The locks stay held: what runs at exit after this may still use the server."""
    with _mutex:
        for member in _members.values():
            member.leave_a_guardian()


at_exit(_leave_no_server_unguarded)


def _begin_anew_in_child() -> None:
    """A child has no thread of its parent, nor one that waits."""
    global _left, _watcher
    _mutex.release()
    _left = threading.Condition(_mutex)
    _watcher = None


# A child forked by one thread while another starts a guardian would keep that guardian's lock, and
# ``_mutex`` would stay locked in it for ever.
os.register_at_fork(
    before=_mutex.acquire, after_in_parent=_mutex.release, after_in_child=_begin_anew_in_child
)
