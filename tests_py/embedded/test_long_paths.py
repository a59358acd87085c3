"""A socket's path has a limit and is text; a directory's has none and may be any bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_graphrag_redis import SyncRedisKVStorage, embedded
from nano_graphrag_redis.embedded.socket_paths import make_reachable
from nano_graphrag_redis.exceptions import StorageConfigError
from support.members import Member, client, eventually, is_answering, is_running, server_pid

StartMember = Callable[..., Member]
pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def directory(directory: Path) -> Path:
    """As everywhere, with a name of more than 150 bytes."""
    return directory / "ü" / ("long" * 40)


def test_up_to_a_hundred_bytes_the_socket_is_named_by_its_directory() -> None:
    fits = Path("/" + "d" * (100 - len("//redis.sock")))
    assert embedded.socket_path(fits) == fits / "redis.sock"
    assert embedded.socket_path(fits / "x").parent != fits / "x"
    two_bytes_each = Path("/" + "ü" * 50)
    assert embedded.socket_path(two_bytes_each).parent != two_bytes_each


def test_a_socket_path_is_short_the_same_every_time_and_makes_nothing(
    directory: Path, runtime: Path
) -> None:
    path = embedded.socket_path(directory)
    assert len(os.fsencode(path)) <= 100
    assert path == embedded.socket_path(directory)
    assert path != embedded.socket_path(directory / "x")
    assert not directory.exists()
    assert list(runtime.iterdir()) == []


def test_a_server_in_a_long_path_is_reached_by_the_short_one_which_a_pointer_names(
    directory: Path, start_member: StartMember
) -> None:
    member = start_member(directory).join()
    server = server_pid(directory)
    assert (directory / "redis.sock.path").read_text() == f"{embedded.socket_path(directory)}\n"
    member.leave()
    eventually(lambda: not is_running(server))


def test_a_directory_whose_name_is_not_utf8_is_reached_by_a_path_that_is(
    runtime: Path, tmp_path: Path
) -> None:
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    settings = {"redis_url": f"embedded://{directory}"}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": 1})
        assert storage.get_by_id("a") == 1
    assert embedded.socket_path(directory).is_relative_to(runtime)


def test_processes_with_different_runtime_directories_share_the_server(
    directory: Path, runtime: Path, start_member: StartMember
) -> None:
    start_member(directory).join()
    server = server_pid(directory)
    other = runtime / "other"
    other.mkdir()
    start_member(directory, environment={"XDG_RUNTIME_DIR": str(other)}).join()
    start_member(directory, environment={"XDG_RUNTIME_DIR": "", "TMPDIR": str(other)}).join()
    assert server_pid(directory) == server


def test_a_runtime_directory_that_was_swept_is_made_again(directory: Path) -> None:
    embedded.acquire(directory)
    embedded.socket_path(directory).parent.unlink()
    assert not is_answering(directory)
    embedded.acquire(directory)
    assert is_answering(directory)
    embedded.release(directory)
    embedded.release(directory)


def test_a_runtime_directory_too_long_itself_is_passed_over(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/" + "x" * 80)
    monkeypatch.setenv("TMPDIR", "relative")
    assert embedded.socket_path(directory).is_relative_to("/tmp")


def own(runtime: Path) -> Path:
    """Our part of a runtime directory."""
    return runtime / f"nano-graphrag-redis-{os.geteuid()}"


def make_open(path: Path) -> None:
    """A directory into which others may put a socket."""
    path.mkdir()
    path.chmod(0o770)


def make_link(path: Path) -> None:
    """A link to wherever somebody else likes."""
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


def make_file(path: Path) -> None:
    """No directory at all."""
    path.touch(mode=0o700)


@pytest.mark.parametrize("make", [make_open, make_link, make_file])
def test_a_runtime_directory_that_is_not_ours_alone_is_refused(
    make: Callable[[Path], None], directory: Path, runtime: Path
) -> None:
    make(own(runtime))
    with pytest.raises(StorageConfigError, match=rf"{own(runtime)} "):
        embedded.acquire(directory)


def test_a_runtime_directory_of_somebody_else_is_refused(
    directory: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = os.geteuid() + 1
    (runtime / f"nano-graphrag-redis-{somebody}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with pytest.raises(StorageConfigError, match="of this user alone"):
        make_reachable(directory.resolve())


def test_a_runtime_directory_that_is_not_there_is_a_settings_error(
    directory: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "missing"))
    with pytest.raises(StorageConfigError, match="XDG_RUNTIME_DIR"):
        embedded.acquire(directory)


def test_only_this_user_enters_the_runtime_directory(directory: Path, runtime: Path) -> None:
    embedded.acquire(directory)
    assert own(runtime).stat().st_mode & 0o777 == 0o700
    with client(directory) as connection:
        assert connection.ping() is True
    embedded.release(directory)
