"""Own writes are seen at once, though word of them comes over another connection than their
acknowledgement: it may come later, and an answer from before may come later still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from support.conditions import eventually
from support.proxy import Proxy

from .conftest import PREFIX, Near, OpenNear

KEY = PREFIX + "id"
WRITES: dict[str, tuple[Callable[[SyncRedisKVStorage], object], object]] = {
    "upsert": (lambda storage: storage.upsert({"id": "new"}), "new"),
    "batch": (lambda storage: storage.upsert({"id": "new", "more": 1}), "new"),
    "delete": (lambda storage: storage.delete_by_id("id"), None),
    "deletes": (lambda storage: storage.delete_by_ids(["more", "id"]), None),
    "drop": (lambda storage: storage.drop(), None),
}


@pytest.fixture(params=WRITES)
def write(request: pytest.FixtureRequest) -> tuple[Callable[[SyncRedisKVStorage], object], object]:
    return WRITES[request.param]


def test_a_write_is_seen_before_the_server_tells_of_it(
    behind: Near,
    proxy: Proxy,
    write: tuple[Callable[[SyncRedisKVStorage], object], object],
) -> None:
    change, expected = write
    behind.upsert({"id": "old"})
    assert behind.fill("id") == "old"
    proxy.hold = frozenset({"TRACKING"})
    change(behind)
    assert behind.get_by_id("id") == expected
    assert behind.get_by_ids(["id"]) == [expected]


def test_a_storage_without_copies_writes_for_those_that_have_them(
    behind: Near,
    proxy: Proxy,
    open_near: OpenNear,
    write: tuple[Callable[[SyncRedisKVStorage], object], object],
) -> None:
    change, expected = write
    plain = open_near(
        redis_url=proxy.url,
        redis_near_cache_mb=0,
        redis_socket_timeout=30.0,
        redis_min_connections=2,
        redis_prewarm_connections=True,
    )
    behind.upsert({"id": "old"})
    assert behind.fill("id") == "old"
    proxy.hold = frozenset({"TRACKING"})
    change(plain)
    assert behind.get_by_id("id") == expected


@pytest.mark.parametrize("registry", [False, True], ids=["scanned", "registered"])
def test_dropping_what_another_client_has_deleted_forgets_it_too(
    open_near: OpenNear, proxy: Proxy, redis_client: redis.Redis, registry: bool
) -> None:
    settings: dict[str, Any] = {"redis_registry": registry, "redis_socket_timeout": 30.0}
    near = open_near(redis_url=proxy.url, **settings)
    near.upsert({"id": "old", "more": "old"})
    assert (near.fill("id"), near.fill("more")) == ("old", "old")
    proxy.hold = frozenset({"TRACKING"})
    redis_client.delete(KEY)
    near.drop()
    assert near.get_by_ids(["id", "more"]) == [None, None]


def gets(client: redis.Redis) -> int:
    """GETs that the server has answered."""
    statistics = client.info("commandstats")
    return int(statistics.get("cmdstat_get", {}).get("calls", 0))


@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_an_answer_that_was_on_its_way_during_a_write_is_not_kept(
    behind: Near, proxy: Proxy, redis_client: redis.Redis, whose: str
) -> None:
    redis_client.set(KEY, b'"old"')
    before = gets(redis_client)
    proxy.hold = frozenset({"GET"})
    with ThreadPoolExecutor(1) as reader:
        late = reader.submit(behind.get_by_id, "id")
        eventually(lambda: gets(redis_client) > before)
        if whose == "own":
            # The server's word is held back too: the acknowledgement must do.
            proxy.hold = frozenset({"GET", "TRACKING"})
            behind.upsert({"id": "new"})
        else:
            with behind.hears():
                redis_client.set(KEY, b'"new"')
        proxy.hold -= {"GET"}
        assert late.result() == "old"
    assert behind.get_by_id("id") == "new"


def test_what_was_read_while_a_write_was_on_its_way_goes_with_its_acknowledgement(
    behind: Near, proxy: Proxy, redis_client: redis.Redis
) -> None:
    # The write waits on the second connection while the first one reads on.
    behind.upsert({"id": "old"})
    behind.fill("id")
    redis_client.execute_command("CLIENT", "PAUSE", "20000", "WRITE")
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(behind.upsert, {"id": "new"})
        eventually(lambda: bool(behind.get_stats(light=True)["requests_in_flight"] > 0))
        assert behind.fill("id") == "old"
        proxy.hold = frozenset({"TRACKING"})
        redis_client.execute_command("CLIENT", "UNPAUSE")
        written.result()
    assert behind.get_by_id("id") == "new"


def test_awaited_writes_are_seen_by_awaited_reads(behind: Near, proxy: Proxy) -> None:
    config = dict(behind.global_config)

    async def main() -> None:
        async with RedisKVStorage("full_docs", config) as storage:
            ids = [f"id-{n}" for n in range(100)]
            for version in range(5):
                await asyncio.gather(*(storage.upsert({id: version}) for id in ids))
                values = await asyncio.gather(*map(storage.get_by_id, ids))
                assert values == [version] * len(ids)
                # Local now; the server's word of the next writes is held back.
                values = await asyncio.gather(*map(storage.get_by_id, ids))
                assert values == [version] * len(ids)
                proxy.hold = frozenset({"TRACKING"})

    asyncio.run(main())
