"""What `redis_changes` costs a write: the median with it beside the median without it.

One process writes one value a call, in turns of half a second with the setting on and off, so that
whatever else the machine does meets both. Prints the medians of both classes.

Run: .venv/bin/python -m benches.changes
"""

from __future__ import annotations

import asyncio
import statistics
import time

from benches.server import running_server
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage

TURNS, SECONDS = 60, 0.5
VALUE = {"content": "Marley was dead: to begin with. " * 10}


async def awaited(store: RedisKVStorage, times: list[float]) -> None:
    """Writes for a turn on an event loop."""
    ends = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < ends:
        await store.upsert({"doc-1": VALUE})
        times.append(time.perf_counter() - began)


def blocking(store: SyncRedisKVStorage, times: list[float]) -> None:
    """The same on a thread that blocks."""
    ends = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < ends:
        store.upsert({"doc-1": VALUE})
        times.append(time.perf_counter() - began)


def main() -> None:
    """Measures both classes and prints a row for each."""
    print("| class | off, p50 | on, p50 | longer by |\n| --- | --- | --- | --- |")
    loop = asyncio.new_event_loop()
    with running_server() as server:
        for name, kind in (("RedisKVStorage", RedisKVStorage), ("Sync", SyncRedisKVStorage)):
            stores = [
                kind(f"changes_{on}", {"redis_url": server.url, "redis_changes": on})
                for on in (False, True)
            ]
            times: list[list[float]] = [[], []]
            for turn in range(TURNS):
                store, into = stores[turn % 2], times[turn % 2]
                if isinstance(store, RedisKVStorage):
                    loop.run_until_complete(awaited(store, into))
                else:
                    blocking(store, into)
            off, on = (statistics.median(each) * 1e6 for each in times)
            print(f"| {name} | {off:.1f} µs | {on:.1f} µs | {on / off - 1:+.1%} |", flush=True)
            for each in stores:
                (each.sync if isinstance(each, RedisKVStorage) else each).close()
    loop.close()


if __name__ == "__main__":
    main()
