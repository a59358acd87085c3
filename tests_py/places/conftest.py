"""The contract suite once more, on servers of other kinds than the plain ones.

Each module here repeats one of ``tests_py/contract``. The oracle and the options that change
nothing have no say about where a server is, so only the two classes are repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from contract.conftest import open_redis, redis_kv, store
from support.cluster import RedisCluster
from support.places import OpenPlace, Place, places
from support.selection import takes_all
from support.servers import RedisServer
from support.stores import OpenStore, Settings, Store, opened

__all__ = ["open_redis", "redis_kv", "store"]


CHOSEN = "cluster-valkey"
"""The place furthest from a plain server: the one of every run, the others being exhaustive."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each place; most are not even collected where they would be left out."""
    if "place" in metafunc.fixturenames:
        each = {
            name: pytest.param(
                open_place, id=name, marks=[] if name == CHOSEN else pytest.mark.exhaustive
            )
            for name, open_place in places().items()
            if name == CHOSEN or takes_all(metafunc.config)
        }
        metafunc.parametrize("place", each.values(), indirect=True, scope="session")


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The server that the tests of a session share; ask for ``server`` or ``settings``."""
    open_place: OpenPlace = request.param
    with open_place() as running:
        yield running


@pytest.fixture
def server(place: Place) -> Iterator[RedisServer | RedisCluster]:
    """A running, empty server, which has nothing to complain about at the end."""
    place.prepare()
    with place.server.client() as client:
        client.flushall()
    yield place.server
    assert place.complaints() == []


@pytest.fixture
def settings(place: Place, server: RedisServer) -> Settings:
    """The least a storage needs to know."""
    return place.settings


@pytest.fixture
def permit(place: Place, server: RedisServer) -> Callable[[Settings], None]:
    """Has the server permit what a storage with these settings does."""
    return place.permit


@pytest.fixture(params=["async", "sync"])
def open_store(
    request: pytest.FixtureRequest, settings: Settings, permit: Callable[[Settings], None]
) -> Iterator[OpenStore]:
    """Opens storages of either class."""
    with ExitStack() as stack:

        def open_one(namespace: str, **more: Any) -> Store:
            permit(settings | more)
            return stack.enter_context(opened(request.param, namespace, settings | more))

        yield open_one
