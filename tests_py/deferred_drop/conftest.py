"""Reports under ``redis_deferred_drop``: of one worker, and of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from nano_graphrag_redis import (
    RedisKVStorage,
)
from support.servers import RedisServer

from .sets import Settings


@pytest.fixture(params=[{}, {"redis_registry": True}, {"redis_near_cache_mb": 1}], ids=str)
def settings(request: pytest.FixtureRequest, server: RedisServer) -> Settings:
    return {"redis_url": server.url, "redis_deferred_drop": True, **request.param}


@pytest.fixture
def reports(settings: Settings) -> Iterator[RedisKVStorage]:
    storage = RedisKVStorage("community_reports", settings)
    with closing(storage.sync):
        yield storage


@pytest.fixture
def others(settings: Settings) -> Iterator[RedisKVStorage]:
    """Those of another worker."""
    storage = RedisKVStorage("community_reports", {**settings, "redis_retry_on_timeout": False})
    with closing(storage.sync):
        yield storage
