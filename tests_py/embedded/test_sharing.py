"""One server per directory: for every process that names it, until the last of them leaves."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_graphrag_redis import embedded
from support.members import (
    Member,
    client,
    eventually,
    guardian_pid,
    is_answering,
    is_locked,
    is_running,
    server_pid,
)
from support.servers import server_binaries

StartMember = Callable[..., Member]


def test_the_last_one_out_ends_the_server_and_its_guardian(
    directory: Path, start_member: StartMember
) -> None:
    first, second = start_member().join(), start_member().join()
    server, guardian = server_pid(directory), guardian_pid(directory)
    first.leave()
    assert server_pid(directory) == server
    second.leave()
    eventually(lambda: not is_running(server) and not is_running(guardian))
    assert not embedded.socket_path(directory).exists()


def test_what_was_written_is_there_after_everybody_left_and_came_back(
    directory: Path, start_member: StartMember
) -> None:
    member = start_member().join()
    server = server_pid(directory)
    with client(directory) as connection:
        connection.set("k", b"\0v")
    member.leave()
    eventually(lambda: not is_running(server))
    start_member().join()
    with client(directory) as connection:
        assert connection.get("k") == b"\0v"


def test_two_processes_that_start_at_once_share_one_server_twenty_times(
    directory: Path, start_member: StartMember
) -> None:
    # Each round begins while the guardian of the round before is still ending its server.
    for round_number in range(20):
        pair = [start_member(), start_member()]
        for member in pair:
            member.join()
            with client(directory) as connection:
                connection.incr("joined")
        with client(directory) as connection:
            assert connection.get("joined") == b"%d" % (2 * round_number + 2)
        for member in pair:
            member.leave()


def test_who_comes_while_the_server_is_ending_gets_one_that_stays(directory: Path) -> None:
    embedded.acquire(directory)
    for _ in range(5):
        embedded.release(directory)
        embedded.acquire(directory)
        with client(directory) as connection:
            # A server on its way out would close the connection within this third of a second.
            assert connection.blpop(["nothing"], timeout=0.3) is None
    embedded.release(directory)


def test_a_killed_member_leaves_the_server_to_the_others_and_is_missed_by_nobody(
    directory: Path, start_member: StartMember
) -> None:
    founder, other = start_member().join(), start_member().join()
    server = server_pid(directory)
    founder.kill()
    assert server_pid(directory) == server
    other.kill()
    eventually(lambda: not is_running(server))


def test_a_member_killed_while_its_server_starts_leaves_nothing_behind(
    directory: Path, start_member: StartMember
) -> None:
    guardian_lock = directory / "guardian.lock"
    for _ in range(5):
        member = start_member()
        eventually(lambda: guardian_lock.exists() and is_locked(guardian_lock))
        member.kill()
        eventually(lambda: not is_locked(guardian_lock))
        assert not is_answering(directory)


_SLOW_SERVER = """#!/bin/sh
test "$1" = --version || sleep 1
exec {binary} "$@"
"""


def test_a_server_that_is_slow_to_start_ends_with_its_only_member_all_the_same(
    directory: Path, tmp_path: Path, start_member: StartMember
) -> None:
    slow = tmp_path / "redis-server"
    slow.write_text(_SLOW_SERVER.format(binary=server_binaries()["valkey"]))
    slow.chmod(0o700)
    member = start_member(environment={"REDIS_SERVER_BIN": str(slow)})
    server_lock, guardian_lock = directory / "server.lock", directory / "guardian.lock"
    eventually(lambda: server_lock.exists() and is_locked(server_lock))
    member.kill()
    eventually(lambda: not is_locked(guardian_lock))
    assert not is_answering(directory)


@pytest.mark.parametrize("name", ["relative", "absolute", "through a link"])
def test_the_same_directory_is_the_same_server_by_any_of_its_names(
    name: str, directory: Path, tmp_path: Path, start_member: StartMember
) -> None:
    start_member().join()
    server = server_pid(directory)
    (tmp_path / "link").symlink_to(directory.parent)
    names = {
        "relative": "./redis",
        "absolute": directory,
        "through a link": tmp_path / "link/redis",
    }
    start_member(names[name], cwd=directory.parent).join()
    assert server_pid(directory) == server
    assert embedded.socket_path(tmp_path / "link" / "redis") == embedded.socket_path(directory)


def test_each_acquire_wants_one_release_and_one_more_does_no_harm(directory: Path) -> None:
    embedded.acquire(directory)
    embedded.acquire(directory)
    server = server_pid(directory)
    embedded.release(directory)
    assert server_pid(directory) == server
    embedded.release(directory)
    eventually(lambda: not is_running(server))
    embedded.release(directory)


def test_many_threads_join_at_once(directory: Path) -> None:
    failures: list[BaseException] = []

    def join() -> None:
        try:
            embedded.acquire(directory)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=join) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    server = server_pid(directory)
    for _ in threads:
        embedded.release(directory)
    eventually(lambda: not is_running(server))


_PARENT_LEAVES_FIRST = """
import os, sys
from pathlib import Path
from nano_graphrag_redis import embedded

embedded.acquire(Path(sys.argv[1]))
if os.fork():
    os._exit(0)
print("joined", flush=True)
sys.stdin.read()
"""


def test_a_forked_child_keeps_the_server_when_its_parent_leaves(
    directory: Path, start_member: StartMember
) -> None:
    child = start_member(script=_PARENT_LEAVES_FIRST).join()
    server = server_pid(directory)
    assert is_answering(directory)
    assert child.end() == (0, "", "")
    eventually(lambda: not is_running(server))


_CHILD_LEAVES_FIRST = """
import os, sys
from pathlib import Path
from nano_graphrag_redis import embedded

directory = Path(sys.argv[1])
embedded.acquire(directory)
child = os.fork()
if not child:
    embedded.release(directory)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("joined", flush=True)
sys.stdin.read()
"""


def test_a_forked_child_that_releases_does_not_let_go_for_its_parent(
    directory: Path, start_member: StartMember
) -> None:
    parent = start_member(script=_CHILD_LEAVES_FIRST).join()
    server = server_pid(directory)
    start_member().join().leave()
    assert server_pid(directory) == server
    parent.leave()


_FORK_DURING_A_START = """
import os, sys, threading, warnings
from pathlib import Path
from nano_graphrag_redis import embedded

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested here
directory = Path(sys.argv[1])
starting = threading.Thread(target=embedded.acquire, args=[directory])
starting.start()
while not (directory / "members.lock").exists():
    pass
child = os.fork()
if not child:
    embedded.acquire(directory)
    os._exit(0)
starting.join()
assert os.waitpid(child, 0)[1] == 0
print("joined", flush=True)
"""


def test_a_child_forked_while_another_thread_starts_a_server_can_join(
    directory: Path, start_member: StartMember
) -> None:
    # Between the first lock and the guardian's start lie some forty milliseconds with the
    # module's mutex held: a child forked in them without care would wait for it for ever.
    start_member(script=_FORK_DURING_A_START).join().leave()


def test_ctrl_c_in_the_founders_terminal_and_a_signal_to_the_guardian_end_nothing(
    directory: Path, start_member: StartMember
) -> None:
    founder = start_member().join()
    start_member().join()
    server, guardian = server_pid(directory), guardian_pid(directory)
    assert founder.pid not in (os.getpgid(server), os.getpgid(guardian))
    os.killpg(founder.pid, signal.SIGINT)
    founder.end()
    for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(guardian, name)
    assert server_pid(directory) == server
    assert guardian_pid(directory) == guardian


def test_guardian_and_server_hold_none_of_the_founders_files(
    directory: Path, start_member: StartMember
) -> None:
    founder = start_member().join()
    start_member().join()
    # Reads to the end of the founder's output: it would not come while others hold the pipes.
    founder.leave()
    assert is_answering(directory)


def test_only_this_user_reaches_the_server_and_it_never_forgets(
    directory: Path, start_member: StartMember
) -> None:
    start_member().join()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(embedded.socket_path(directory).stat().st_mode) == 0o700
    with client(directory) as connection:
        settings = connection.config_get("*")
    assert {name: settings[name] for name in ("port", "appendonly", "appendfsync", "save")} == {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
    }
    assert settings["maxmemory-policy"] == "noeviction"


def test_a_directory_may_have_any_name(tmp_path: Path, start_member: StartMember) -> None:
    directory = tmp_path / '--it\'s a "cache" %s'
    member = start_member(directory).join()
    server = server_pid(directory)
    member.leave()
    eventually(lambda: not is_running(server))
