"""The examples, in an environment like a reader's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.host import BOOK, ROOT, Llm, running_llm
from support.preloaded import Preloaded
from support.servers import server_binaries

LETTERS = 8_000
"""Of the book: enough for a graph, and indexed in seconds."""

Example = Callable[..., str]


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """The examples say nothing of the server's kind; one is enough to see them work."""
    return server_binaries()["valkey"]


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    """The demo's offline language model."""
    with running_llm() as running:
        yield running


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """The beginning of the story."""
    text = BOOK.read_text(encoding="utf-8")
    short = tmp_path / "book.txt"
    short.write_text(text[text.index("Marley was dead, to begin with.") :][:LETTERS])
    return short


@pytest.fixture
def example(host: Preloaded, tmp_path: Path) -> Example:
    """``example(file, *arguments, **environment)``: what it prints."""

    def run(file: str, *arguments: object, **settings: str) -> str:
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
        done = host.run(
            [str(ROOT / "examples" / file), *map(str, arguments)],
            env=outside | settings,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
