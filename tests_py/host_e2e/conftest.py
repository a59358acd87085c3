"""A shortened book, and each run of the host over it: made once, looked at by many tests."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from support.host import BOOK, HostRun, Llm, Run, run_host, running_llm
from support.preloaded import Preloaded
from support.servers import RedisServer

SCENARIO = Path(__file__).with_name("scenario.py")
DATABASES = {"class": 1, "environment": 2, "subclass": 3}
"""A database of its own for each way to plug the backend in."""
LETTERS = 16_000
"""Of the book: a handful of chunks. In a longer text several descriptions get so long that the host
has them summarised at once, and the order of the replies would decide the order of its graph."""


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    """The demo's offline language model."""
    with running_llm() as running:
        yield running


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One server for all runs of the module."""
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginning of the story, from its first sentence."""
    text = BOOK.read_text(encoding="utf-8")
    start = text.index("Marley was dead, to begin with.")
    short = tmp_path_factory.mktemp("book") / "stave-one.txt"
    short.write_text(text[start : start + LETTERS], encoding="utf-8")
    return short


@pytest.fixture(scope="module")
def run(
    host: Preloaded,
    llm: Llm,
    redis_server: RedisServer,
    book: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> HostRun:
    """``run(backend, step, workspace)``: the step in a fresh process, done once.

    To ask, a backend has indexed before, in the same working directory.
    """
    home = tmp_path_factory.mktemp("host")

    @cache  # by position: one spelling of the arguments, one run
    def run_once(backend: str, step: str, workspace: str) -> Run:
        if step == "ask":
            run_once(backend, "index", workspace)
        settings = {"STORAGE_KV_BACKEND": "json"}
        if backend in DATABASES:
            settings = {
                "STORAGE_KV_BACKEND": "redis",
                "REDIS_URL": f"{redis_server.url}/{DATABASES[backend]}",
                "REDIS_WORKSPACE": workspace,
                "REDIS_SHARED_NAMESPACES": "llm_response_cache",
            }
        return run_host(
            host,
            llm,
            SCENARIO,
            backend.removesuffix(" again"),
            step,
            working_dir=home / f"{backend}-{workspace}",
            book=book,
            **settings,
        )

    def run(backend: str, step: str, workspace: str = "one") -> Run:
        return run_once(backend, step, workspace)

    return run
