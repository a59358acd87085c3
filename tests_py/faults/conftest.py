"""The matrix of faults: each test names its row, says what it saw, and knows how much to do.

    @pytest.mark.row(12)
    def test_a_sentence(row: Row, server: RedisServer) -> None:
        for _ in range(row.pick(quick=50, full=5_000)):
            ...
        row.within("overshoot p99.9", seconds, promised=0.05)

Part of every test run in a quick size, promised times with room. `make faults` runs the full size
and writes what was seen to docs/reliability.md. Of a row of which not all tests were run, the page
keeps what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pytest

from nano_graphrag_redis import RedisKVStorage
from support.proxy import Proxy
from support.servers import RedisServer, server_binaries

from .page import write_page
from .rows import PROPERTY, Row, Rows, marked

ROWS = pytest.StashKey[Rows]()
ROW = pytest.StashKey[Row]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults", choices=["quick", "full"], default="quick", help="how much to do")
    group.addoption("--faults-page", type=Path, help="where to write what was seen")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(number): the row of the matrix that a test belongs to")
    config.stash[ROWS] = Rows()
    for number, test in marked(Path(__file__).parent):
        config.stash[ROWS].expect(number, test)
    config.pluginmanager.register(Gathering(config.stash[ROWS]))


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The test's row of the matrix."""
    mark = request.node.get_closest_marker("row")
    assert mark is not None, "a test of the matrix names its row: @pytest.mark.row(12)"
    row = Row(mark.args[0], full=request.config.getoption("--faults", "quick") == "full")
    request.node.stash[ROW] = row
    return row


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    mark = item.get_closest_marker("row")
    if mark is not None and (report.when == "call" or report.failed):
        row = item.stash.get(ROW, Row(mark.args[0], full=False))
        report.user_properties.append((PROPERTY, asdict(row)))
    return report  # type: ignore[return-value]


class Gathering:
    """Where the tests are reported, which with several workers is not where they ran."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        mark = item.get_closest_marker("row")
        if mark is not None:
            self._rows.expect(mark.args[0], item.nodeid.rpartition("::")[2])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY:
                assert isinstance(value, dict)
                test = report.nodeid.rpartition("::")[2]
                self._rows.ran(Row(**value), test, passed=report.passed)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("--faults", "quick") != "full":
        return
    rows = config.stash[ROWS]
    terminalreporter.section("the matrix of faults")
    for number, seen, verdict in rows.lines():
        terminalreporter.line(f"{number:>2}  {verdict.replace('*', '')}  [{seen}]")
    page = config.getoption("--faults-page", None)
    if page is not None:
        write_page(page, rows)


class OpenStorage(Protocol):
    """`open_storage(namespace, **settings)`: a storage on `server`, closed after the test."""

    def __call__(self, namespace: str = ..., **settings: Any) -> RedisKVStorage: ...


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """Most faults lie on the client's side: one kind of server is enough."""
    return server_binaries()["valkey"]


@pytest.fixture
def own_server(server_binary: Path) -> Iterator[RedisServer]:
    """A server of this test alone, to be stopped and killed."""
    with RedisServer(server_binary) as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    """A proxy before `server`."""
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def open_storage(server: RedisServer) -> Iterator[OpenStorage]:
    with ExitStack() as stack:

        def opened(namespace: str = "full_docs", **settings: Any) -> RedisKVStorage:
            storage = RedisKVStorage(namespace, {"redis_url": server.url, **settings})
            stack.enter_context(closing(storage.sync))
            return storage

        yield opened
