"""A directory for an embedded server, and processes that share it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.members import Member, eventually, is_locked


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory for an embedded server; whatever still runs there after a test is an error."""
    home = tmp_path / "cache" / "redis"
    yield home
    if home.exists():
        eventually(lambda: not is_locked(home / "server.lock"))
        eventually(lambda: not is_locked(home / "guardian.lock"))


@pytest.fixture
def start_member(directory: Path) -> Iterator[Callable[..., Member]]:
    """Starts members of ``directory``, or of another; the test's end is theirs."""
    started: list[Member] = []

    def start(where: Path | str = directory, **options: object) -> Member:
        started.append(Member(where, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for member in started:
        member.kill()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's own; pytest's directories are too long themselves."""
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", path)
        yield Path(path)
