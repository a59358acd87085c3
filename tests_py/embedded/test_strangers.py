"""Directories and numbers of others: no server of theirs is used, no process ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.embedded.holder import (
    dismiss_holder,
    facts_of,
    holder_of,
    is_kept,
    leave_holder,
)
from nano_graphrag_redis.exceptions import StorageConfigError
from support.members import Member, eventually

STRANGER = 12345
"""A user id that nobody has here."""


@pytest.fixture
def kept(directory: Path) -> Iterator[Path]:
    """A directory with a keeper, who is gone after the test."""
    leave_holder(directory)
    yield directory
    os.chown(directory, os.geteuid(), -1)
    directory.chmod(0o700)
    dismiss_holder(directory)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any of this."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("written", ["{pid}", "{pid}\n", "1", "0", "-1", "no number", "9" * 40, ""])
def test_dismissing_a_keeper_signals_no_process_whose_number_is_on_paper(
    kept: Path, bystander: subprocess.Popen[bytes], written: str
) -> None:
    # As a keeper in a container of its own writes it: the number is another process's here.
    (kept / "keeper.lock").write_text(written.format(pid=bystander.pid))
    holder_of(kept)
    assert dismiss_holder(kept)
    assert not facts_of(kept)
    assert bystander.poll() is None


def test_a_keeper_that_is_asked_to_end_by_a_signal_leaves_its_server(kept: Path) -> None:
    keeper = holder_of(kept)
    assert keeper is not None
    os.kill(keeper, 15)
    eventually(lambda: not is_kept(kept))
    eventually(lambda: not facts_of(kept))


@pytest.mark.parametrize("harm", ["file", "link", "directory", "none"])
def test_a_dismissal_that_cannot_be_handed_over_harms_nothing(
    kept: Path, tmp_path: Path, harm: str
) -> None:
    pipe, aside, victim = kept / "keeper.stop", tmp_path / "aside", tmp_path / "victim"
    pipe.rename(aside)
    victim.write_text("precious")
    make: dict[str, Callable[[], object]] = {
        "file": lambda: pipe.write_text(""),
        "link": lambda: pipe.symlink_to(victim),
        "directory": pipe.mkdir,
        "none": lambda: None,
    }
    make[harm]()
    stopping = Member(kept, script=STOP)
    eventually(lambda: is_kept(kept) and stopping._process.poll() is None)
    assert victim.read_text() == "precious"
    if pipe.is_dir():
        pipe.rmdir()
    aside.rename(pipe)
    assert stopping.end()[:2] == (0, "True\n")
    assert victim.read_text() == "precious"


STOP = """
import sys
from pathlib import Path
from nano_graphrag_redis.embedded.holder import dismiss_holder
print(dismiss_holder(Path(sys.argv[1])))
"""


def test_a_directory_that_everybody_may_write_is_refused(directory: Path) -> None:
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    docs = SyncRedisKVStorage("full_docs", {"redis_url": f"embedded://{directory}"})
    with docs, pytest.raises(StorageConfigError, match="may be written by everybody"):
        docs.upsert({"a": 1})
    assert [path.name for path in directory.iterdir()] == []


def test_another_users_directory_and_server_are_refused_even_by_root(kept: Path) -> None:
    if os.geteuid() != 0:
        return  # only root gives directories away, and only root could join another's
    url = {"redis_url": f"embedded://{kept}"}
    for path, why in ((kept, "belongs to another user"), (kept / "redis.sock", "holds the socket")):
        os.chown(path, STRANGER, -1)
        docs = SyncRedisKVStorage("full_docs", url)
        with docs, pytest.raises(StorageConfigError, match=f"{why}.*uid {STRANGER}"):
            docs.upsert({"secret": "document"})
        os.chown(path, 0, -1)
    with SyncRedisKVStorage("full_docs", url) as docs:
        assert docs.all_keys() == []


@pytest.mark.parametrize("command", ["start", "status", "stop"])
def test_the_command_touches_no_directory_of_another_user(kept: Path, command: str) -> None:
    if os.geteuid() != 0:
        return  # as above
    os.chown(kept, STRANGER, -1)
    ended = subprocess.run(
        [sys.executable, "-m", "nano_graphrag_redis", "server", command, str(kept)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "belongs to another user" in ended.stderr
    os.chown(kept, 0, -1)
    assert is_kept(kept)


def test_a_lock_that_is_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    directory.mkdir(parents=True)
    victim = tmp_path / "victim"
    (directory / "members.lock").symlink_to(victim)
    docs = SyncRedisKVStorage("full_docs", {"redis_url": f"embedded://{directory}"})
    with docs, pytest.raises(StorageConfigError, match="cannot be used"):
        docs.upsert({"a": 1})
    assert not victim.exists()
