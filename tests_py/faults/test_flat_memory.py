"""Memory of a process that opens and closes storages for ever, in new loops, under new names."""

from __future__ import annotations

import json

import pytest

from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

# The first cycles fill what is kept for good: the allocator's arenas, caches, the runtime.
GROWTH = """
import asyncio, gc, json, logging
logging.disable(logging.CRITICAL)
kind, count = sys.argv[2], int(sys.argv[3])

def held():
    gc.collect()
    with open("/proc/self/smaps_rollup") as rollup:
        (held,) = (line for line in rollup if line.startswith("Private_Dirty:"))
    return int(held.split()[1]) * 1024

def settings(number):
    return {"redis_url": URL}

def used(storage):
    storage.upsert({"a": {"b": 1}})
    storage.get_by_id("a")
    storage.get_by_ids(["a", "none"])
    storage.filter_keys(["a"])
    storage.index_done_callback()

async def awaited(storage):
    await storage.upsert({"a": {"b": 1}})
    await storage.get_by_id("a")
    await storage.index_done_callback()
    await storage.close()

def cycle(number):
    with SyncRedisKVStorage("full_docs", {"redis_url": URL}) as storage:
        used(storage)

def near_cache_cycle(number):
    with SyncRedisKVStorage("full_docs", {"redis_url": URL, "redis_near_cache_mb": 1}) as storage:
        used(storage)

def registry_cycle(number):
    with SyncRedisKVStorage("full_docs", {"redis_url": URL, "redis_registry": True}) as storage:
        used(storage)

def unused(number):
    SyncRedisKVStorage("full_docs", {"redis_url": URL}).close()

def other_server(number):
    SyncRedisKVStorage("full_docs", {"redis_url": URL, "redis_password": f"p{number}"}).close()

def namespace(number):
    with SyncRedisKVStorage(f"namespace-{number:08}", {"redis_url": URL}) as storage:
        used(storage)

def loop(number):
    asyncio.run(awaited(RedisKVStorage("full_docs", {"redis_url": URL})))

run = globals()[kind]
kept = SyncRedisKVStorage("kept", {"redis_url": URL}) if kind == "namespace" else None
if kept:
    kept.get_by_id("a")
warm = min(count // 2, 10_000)
for number in range(warm):
    run(number)
before = held()
for number in range(warm, warm + count):
    run(number)
print(json.dumps({"grown": held() - before, "threads": len(os.listdir("/proc/self/task")),
                  "descriptors": len(os.listdir("/proc/self/fd"))}))
"""

PAGES = 768 * 1024
"""Bytes by which a process grows and shrinks with nothing kept, seen over few cycles."""


@pytest.mark.row(43)
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("kind", "cycles", "promised"),
    [
        ("cycle", (1_500, 100_000), 16),
        ("near_cache_cycle", (600, 20_000), 16),
        ("registry_cycle", (600, 20_000), 16),
        ("unused", (3_000, 100_000), 16),
        ("other_server", (3_000, 100_000), 16),
        ("loop", (800, 50_000), 16),
        ("namespace", (2_000, 100_000), 1_000),
    ],
)
def test_a_process_that_opens_and_closes_for_ever_does_not_grow(
    row: Row, server: RedisServer, kind: str, cycles: tuple[int, int], promised: int
) -> None:
    count = row.pick(quick=cycles[0], full=cycles[1])
    ran = run_script(GROWTH, server.url, kind, count, timeout=1200)
    found = json.loads(ran.cleanly())
    # Over few cycles a page is more than what is promised of each.
    allowed = promised * count + row.pick(quick=PAGES, full=0)
    row.saw(f"{kind}: bytes kept of each of {count:,}", max(found["grown"], 0) / count)
    assert found["grown"] <= allowed, f"{found['grown'] / count:.0f} bytes of each"
    row.at_most(f"{kind}: descriptors at the end", found["descriptors"], 24)
    row.at_most(f"{kind}: threads at the end", found["threads"], 8)
