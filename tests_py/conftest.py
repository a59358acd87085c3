"""Fixtures every test may use: one running server per kind, empty for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from support.servers import RedisServer, server_binaries, server_label


def pytest_report_header() -> str:
    """Says which servers the tests run on: Debian's is there or not."""
    return "servers: " + ", ".join(map(server_label, server_binaries().values()))


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
