"""The copies take no more memory than they may."""

from __future__ import annotations

from textwrap import dedent

import pytest

from support.scripts import run_script
from support.servers import RedisServer

from .conftest import Near, OpenNear

MB = 1 << 20


def test_copies_make_room_for_others_within_the_budget(open_near: OpenNear) -> None:
    near = open_near(redis_near_cache_mb=1)
    ids = [f"id-{n}" for n in range(400)]
    near.upsert(dict.fromkeys(ids, "x" * 10000))
    near.wait_until_tracking()
    for id in ids:
        assert near.get_by_id(id) == "x" * 10_000
        assert near.cache["bytes"] <= MB == near.cache["max_bytes"]
    assert near.cache["bytes"] > MB * 3 // 4
    assert near.cache["evictions"] + near.cache["values"] == len(ids)
    assert near.get_by_ids(ids) == ["x" * 10_000] * len(ids)


def test_a_value_over_an_eighth_of_the_budget_is_asked_for_each_time(near: Near) -> None:
    near.upsert({"large": "x" * MB, "small": "x" * 1000})
    assert near.fill("small") == "x" * 1000
    hits = near.cache["hits"]
    for _ in range(3):
        assert near.get_by_id("large") == "x" * MB
    assert near.cache["hits"] == hits
    assert near.cache["values"] == 1


def test_of_storages_with_different_budgets_the_largest_decides(open_near: OpenNear) -> None:
    small, large = open_near(redis_near_cache_mb=1), open_near("text_chunks", redis_near_cache_mb=4)
    small.upsert({"id": "x" * 200_000})
    large.wait_until_tracking()
    assert (small.cache["max_bytes"], large.cache["max_bytes"]) == (4 * MB, 4 * MB)
    assert small.fill("id") == "x" * 200_000


@pytest.mark.any_server
def test_many_small_copies_take_no_more_memory_than_the_budget(server: RedisServer) -> None:
    script = """
    from pathlib import Path
    def resident():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(l.split()[1]) for l in lines if l.startswith("VmRSS")) >> 10
    near = SyncRedisKVStorage("full_docs", {"redis_url": URL, "redis_near_cache_mb": 64})
    off = SyncRedisKVStorage("text_chunks", {"redis_url": URL})
    count = 400_000
    def ids(start):
        return [f"{start + n:08d}" for n in range(20_000)]
    for storage in near, off:
        for start in range(0, count, 20_000):
            storage.upsert(dict.fromkeys(ids(start), 1))
    def read(storage):
        for start in range(0, count, 20_000):
            assert storage.get_by_ids(ids(start)) == [1] * 20_000
    read(off)
    before = resident()
    read(near)
    stats = near.get_stats(light=True)["near_cache"]
    assert stats["evictions"] > 0, stats
    print(resident() - before, stats["bytes"] >> 20, stats["values"])
    near.close()
    off.close()
    """
    taken, counted, _values = map(int, run_script(dedent(script), server.url).cleanly().split())
    assert counted <= 64
    assert taken <= 64 + 8, "MiB; the process has some of its own"
