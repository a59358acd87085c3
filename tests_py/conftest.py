"""Fixtures every test may use: one running server per kind, empty for each test.

Several workers may run the tests (`pytest -n 6 --dist loadfile`): each starts the servers that its
own tests ask for. The tests of a file run on one of them: they share what takes long to make.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from nano_graphrag_redis import _core
from nano_graphrag_redis.workers.counter_writer import stop_writing
from support.host import preloaded_host
from support.leaks import Leaks
from support.preloaded import Preloaded
from support.selection import MARKERS, is_exhaustive, takes_all
from support.servers import HAVING_CLIENTS, RedisServer, server_binaries, server_label

# A shell that starts a job with `&` has it ignore SIGINT, and so would whatever the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A host that clusters imports graspologic, which compiles functions that nothing here calls.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


def pytest_report_header() -> str:
    """Says which servers the tests run on: Debian's is there or not."""
    return "servers: " + ", ".join(map(server_label, server_binaries().values()))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked exhaustive, too")


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    # Before any file reads how many that is; hypothesis's own option says otherwise.
    hypothesis.settings.register_profile("quick", max_examples=30)
    if not takes_all(config) and not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("quick")
    if sys.platform == "linux":  # where it costs next to nothing
        config.pluginmanager.register(Leaks())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is exhaustive; files with few tests, which take longest, come first."""
    if addresses := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"ids that differ in each process: {addresses}")
    if not takes_all(config):
        left_out = [item for item in items if is_exhaustive(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_exhaustive(item)]
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: tests[item.path])  # and a worker takes a file after the other


@pytest.fixture(scope="session", params=list(server_binaries().values()), ids=server_label)
def server_binary(request: pytest.FixtureRequest) -> Path:
    """Each server found; for tests that start one of their own, to pause, kill or configure it."""
    binary: Path = request.param
    return binary


@pytest.fixture(scope="session")
def server_process(server_binary: Path) -> Iterator[RedisServer]:
    """The server that the tests of a session share; ask for ``server`` instead."""
    with RedisServer(server_binary) as running:
        yield running


@pytest.fixture(scope="session")
def host() -> Iterator[Preloaded]:
    """Runs scripts of the real host, which takes seconds to import."""
    with preloaded_host() as running:
        yield running


@pytest.fixture(autouse=True)
def _clients_disconnected() -> Iterator[None]:
    """Ends what a test has connected to servers that stay."""
    yield
    for each in list(HAVING_CLIENTS):
        each.disconnect_clients()


@pytest.fixture(autouse=True)
def _nothing_in_the_background_afterwards() -> Iterator[None]:
    """Ends what a test has had the process do beside the calls.

    The sample of the servers has a connection of its own to each, and the counters have a thread.
    """
    yield
    stop_writing()
    _core.metrics(sample_every=0)


@pytest.fixture
def server(server_process: RedisServer) -> RedisServer:
    """A running, empty server."""
    with server_process.client() as client:
        client.flushall()
    return server_process


@pytest.fixture
def redis_client(server: RedisServer) -> redis.Redis:
    """A redis-py client of ``server``, to see what really lies there."""
    return server.client()


@pytest.fixture
def workspace() -> str:
    """A workspace no other test has."""
    return f"w{uuid.uuid4().hex}"
