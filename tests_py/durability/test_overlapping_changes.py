"""Changes of one id that were under way at once: whichever came last, none is called lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from durability.conftest import Open
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from support.proxy import Proxy
from support.servers import RedisServer

pytestmark = pytest.mark.any_server

KEY = "nano_graphrag:full_docs:shared"


@pytest.fixture
def server(server_binary: Path) -> Iterator[RedisServer]:
    """It loses nothing."""
    with RedisServer(server_binary, appendonly="yes", appendfsync="always") as running:
        yield running


def of_shared(value: int | None) -> Callable[[RedisKVStorage], Coroutine[Any, Any, object]]:
    """A change of the id after which it has this value, or is gone."""
    if value is None:
        return lambda documents: documents.delete_by_id("shared")
    return lambda documents: documents.upsert({"shared": value})


async def is_done(server: RedisServer, value: int | None) -> None:
    """Keeps the loop from the moment it has sent the change, which leaves the answer unread."""
    client = server.client()
    wanted = None if value is None else str(value).encode()
    for _ in range(20):
        await asyncio.sleep(0)
        if any(client.get(KEY) == wanted for _ in range(100)):
            return
    raise AssertionError("the server has no such change")


Second = Callable[[SyncRedisKVStorage], object]
SECOND: dict[str, tuple[int | None, Second]] = {
    "overwritten": (1, lambda documents: documents.upsert({"shared": 2})),
    "deleted": (1, lambda documents: documents.delete_by_id("shared")),
    "written": (None, lambda documents: documents.upsert({"shared": 2})),
    "dropped": (1, lambda documents: documents.drop()),
}


@pytest.mark.parametrize("second", SECOND)
def test_a_change_whose_answer_is_read_late_is_not_taken_for_the_last(
    server: RedisServer, second: str
) -> None:
    config = {"redis_url": server.url, "redis_durability": "fsync", "redis_max_retries": 10}
    first, then = SECOND[second]

    async def main() -> None:
        async with RedisKVStorage("full_docs", config) as documents:
            await documents.upsert({"shared": 0})
            await documents.index_done_callback()
            change = asyncio.ensure_future(of_shared(first)(documents))
            await is_done(server, first)
            then(documents.sync)
            await change
            server.restart()
            await documents.index_done_callback()

    asyncio.run(main())


@pytest.mark.parametrize("second", [2, None])
def test_what_a_change_that_is_under_way_has_replaced_is_not_called_lost(
    server: RedisServer, second: int | None
) -> None:
    config = {"redis_url": server.url, "redis_durability": "fsync", "redis_max_retries": 0}

    async def main() -> None:
        async with RedisKVStorage("full_docs", config) as documents:
            await documents.index_done_callback()
            await documents.upsert({"shared": 1})
            change = asyncio.ensure_future(of_shared(second)(documents))
            await is_done(server, second)
            server.restart()
            documents.sync.index_done_callback()
            await change
            await documents.index_done_callback()

    asyncio.run(main())


def test_a_write_between_two_pages_of_a_drop_does_not_contradict_it(
    server: RedisServer, open_at: Open
) -> None:
    with Proxy(server.port) as proxy:
        reports = open_at(server, "fsync", "community_reports", redis_url=proxy.url)
        reports.upsert({"0": 1})
        reports.index_done_callback()
        proxy.interruption = (b"UNLINK", lambda: reports.upsert({"1": 1}))
        reports.drop()
        assert reports.all_keys() == ["1"]
        server.restart()
        reports.index_done_callback()
