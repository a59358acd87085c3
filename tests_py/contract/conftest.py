"""The storages under contract, each over an empty server and an empty directory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.servers import RedisServer
from support.stores import (
    OpenRedisStore,
    OpenStore,
    RedisStore,
    Settings,
    Store,
    opened,
    redis_store,
)

ALL_OPTIONS: Settings = {
    "redis_registry": True,
    "redis_compression": "zstd",
    "redis_compression_min_bytes": 0,
}
"""What is off by default and must change nothing that a caller sees."""


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    """The least a Redis storage needs to know. A working directory would leave its mark there."""
    return {"redis_url": server.url}


@pytest.fixture
def permit() -> Callable[[Settings], None]:
    """Has the server permit what a storage with these settings does; here it permits everything."""
    return lambda _: None


@pytest.fixture(params=["json", "async", "sync", "optional"])
def open_store(
    request: pytest.FixtureRequest,
    settings: Settings,
    permit: Callable[[Settings], None],
    tmp_path: Path,
) -> Iterator[OpenStore]:
    """Opens storages of every kind: what passes here is the host's own contract."""
    kind, settings = {
        "json": ("json", {"working_dir": str(tmp_path)}),
        "optional": ("sync", settings | ALL_OPTIONS),
    }.get(request.param, (request.param, settings))
    with ExitStack() as stack:

        def open_one(namespace: str, **more: Any) -> Store:
            permit(settings | more)
            return stack.enter_context(opened(kind, namespace, settings | more))

        yield open_one


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    """A storage of any kind."""
    return open_store("full_docs")


@pytest.fixture(params=["async", "sync"])
def open_redis(
    request: pytest.FixtureRequest, settings: Settings, permit: Callable[[Settings], None]
) -> Iterator[OpenRedisStore]:
    """Opens our storages: what is tested with it goes beyond the oracle."""
    with ExitStack() as stack:

        def open_one(namespace: str, **more: Any) -> RedisStore:
            permit(settings | more)
            return stack.enter_context(redis_store(request.param, namespace, settings | more))

        yield open_one


@pytest.fixture
def redis_kv(open_redis: OpenRedisStore) -> RedisStore:
    """One of our storages, of a namespace whose errors are raised."""
    return open_redis("full_docs")
