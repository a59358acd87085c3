"""Whatever is killed, members get their server back and nothing stays behind for ever."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_graphrag_redis import embedded
from nano_graphrag_redis.embedded import join_and_leave
from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.members import (
    Member,
    client,
    eventually,
    guardian_pid,
    is_answering,
    is_locked,
    is_running,
    kill,
    server_pid,
)
from support.servers import server_binaries

StartMember = Callable[..., Member]


def test_a_killed_server_is_started_again_with_what_it_had_acknowledged(
    directory: Path, start_member: StartMember
) -> None:
    start_member().join()
    server, guardian = server_pid(directory), guardian_pid(directory)
    with client(directory) as connection:
        connection.set("k", "v")
    kill(server)
    eventually(lambda: is_answering(directory))
    assert server_pid(directory) != server
    assert guardian_pid(directory) == guardian
    with client(directory) as connection:
        assert connection.get("k") == b"v"


def test_members_go_on_without_their_guardian_and_the_last_one_out_calls_another(
    directory: Path, start_member: StartMember
) -> None:
    member = start_member().join()
    server = server_pid(directory)
    kill(guardian_pid(directory))
    assert server_pid(directory) == server
    member.leave()
    eventually(lambda: not is_running(server))


_BLOCKS_SIGNALS = """
import signal, sys
from pathlib import Path
from nano_graphrag_redis import embedded

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
embedded.acquire(Path(sys.argv[1]))
print("joined", flush=True)
sys.stdin.read()
"""


def test_a_server_that_was_started_where_sigterm_is_blocked_ends_with_its_last_member(
    directory: Path, start_member: StartMember
) -> None:
    member = start_member(script=_BLOCKS_SIGNALS).join()
    server = server_pid(directory)
    member.leave()
    eventually(lambda: not is_running(server))


def test_release_calls_another_guardian_as_leaving_at_exit_does(directory: Path) -> None:
    embedded.acquire(directory)
    server = server_pid(directory)
    kill(guardian_pid(directory))
    embedded.release(directory)
    eventually(lambda: not is_running(server))


def test_a_newcomer_brings_a_guardian_to_the_server_that_lost_its_own(
    directory: Path, start_member: StartMember
) -> None:
    first = start_member().join()
    server = server_pid(directory)
    kill(guardian_pid(directory))
    second = start_member().join()
    assert server_pid(directory) == server
    first.kill()
    second.kill()
    eventually(lambda: not is_running(server))


def test_a_server_whose_second_guardian_is_no_parent_of_it_is_started_again_too(
    directory: Path, start_member: StartMember
) -> None:
    start_member().join()
    server = server_pid(directory)
    kill(guardian_pid(directory))
    start_member().join()
    kill(server)
    eventually(lambda: is_answering(directory))
    assert server_pid(directory) != server


def test_a_newcomer_starts_anew_where_guardian_and_server_were_killed(
    directory: Path, start_member: StartMember
) -> None:
    start_member().join()
    guardian, server = guardian_pid(directory), server_pid(directory)
    with client(directory) as connection:
        connection.set("k", "v")
    kill(guardian)
    kill(server)
    assert embedded.socket_path(directory).is_socket()  # the stale one
    start_member().join()
    with client(directory) as connection:
        assert connection.get("k") == b"v"


def test_a_member_that_stayed_starts_it_anew_by_its_next_acquire(directory: Path) -> None:
    embedded.acquire(directory)
    guardian, server = guardian_pid(directory), server_pid(directory)
    kill(guardian)
    kill(server)
    embedded.acquire(directory)
    assert is_answering(directory)
    embedded.release(directory)
    embedded.release(directory)


def test_everything_killed_at_once_leaves_a_directory_that_can_be_used(
    directory: Path, start_member: StartMember
) -> None:
    member = start_member().join()
    guardian, server = guardian_pid(directory), server_pid(directory)
    member.kill()
    for pid in (guardian, server):
        kill(pid)
    start_member().join()
    assert is_answering(directory)


def test_a_server_that_does_not_start_is_reported_with_its_log_and_tried_once(
    directory: Path,
) -> None:
    embedded.acquire(directory)
    with client(directory) as connection:
        connection.set("k", "v")
    embedded.release(directory)
    eventually(lambda: not is_locked(directory / "guardian.lock"))
    written = next((directory / "appendonlydir").glob("*.incr.aof"))
    written.write_bytes(b"no commands at all\r\n" + written.read_bytes())

    starts = log(directory).count("just started")
    with pytest.raises(StorageUnavailableError, match=r"(?s)ended before it answered.*Bad file"):
        embedded.acquire(directory)
    assert log(directory).count("just started") == starts + 1
    assert not is_locked(directory / "server.lock")


def log(directory: Path) -> str:
    """What the directory's servers have logged."""
    return (directory / "server.log").read_text()


def test_a_directory_removed_under_its_members_is_made_anew(directory: Path) -> None:
    embedded.acquire(directory)
    removed = server_pid(directory)
    shutil.rmtree(directory)
    embedded.acquire(directory)
    assert server_pid(directory) != removed
    eventually(lambda: not is_running(removed))
    embedded.release(directory)
    embedded.release(directory)


_LOADS_SLOWLY = """#!/bin/sh
exec {binary} "$@" --key-load-delay 1000
"""
_NEVER_ANSWERS = """#!/bin/sh
test "$1" = --version && exec {binary} --version
exec sleep 60
"""


def use_server(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a script stand before the real server."""
    program = tmp_path / "redis-server"
    program.write_text(script.format(binary=server_binaries()["valkey"]))
    program.chmod(0o700)
    monkeypatch.setenv("REDIS_SERVER_BIN", str(program))


def test_a_server_may_load_for_longer_than_it_may_be_silent(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.acquire(directory)
    with client(directory) as connection:
        pipeline = connection.pipeline(transaction=False)
        for n in range(8192):
            pipeline.set(f"k{n}", "v")
        pipeline.execute()
    embedded.release(directory)
    eventually(lambda: not is_locked(directory / "guardian.lock"))

    use_server(_LOADS_SLOWLY, tmp_path, monkeypatch)  # eight seconds, an answer every one
    monkeypatch.setattr(join_and_leave, "START_TIMEOUT", 5.0)
    embedded.acquire(directory)
    with client(directory) as connection:
        assert connection.dbsize() == 8192
    embedded.release(directory)


def test_a_server_that_stays_silent_is_given_up_and_ended(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_server(_NEVER_ANSWERS, tmp_path, monkeypatch)
    monkeypatch.setattr(join_and_leave, "START_TIMEOUT", 0.5)
    with pytest.raises(StorageUnavailableError, match="has not answered"):
        embedded.acquire(directory)
    eventually(lambda: not is_locked(directory / "server.lock"))
