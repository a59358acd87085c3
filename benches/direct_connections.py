"""Connections that callers drive themselves, against those that threads of the runtime drive.

Both in one process and in turn: with `redis_max_connections=1` there are no direct
connections, and the pool carries everything. Prints the medians, and the median of the rounds'
own ratios.

Run: .venv/bin/python -m benches.direct_connections
"""

import asyncio
from functools import partial

from benches.measure import measure
from benches.payloads import Payloads, build
from benches.server import Server, running_server
from benches.workload import CHUNKS, Stores
from benches.workloads import workloads
from nano_graphrag_redis import RedisKVStorage

SECONDS = 4.0
WAYS = {"direct": {}, "pool": {"redis_max_connections": 1}}
LEFT_OUT = ("get-near", "llm-call")


async def opened(server: Server, data: Payloads, way: str) -> Stores:
    """Storages that go this way, with the payloads in them."""
    storages = {}
    for namespace, table in data.tables().items():
        config = {"redis_url": server.url, "redis_key_prefix": way, **WAYS[way]}
        storages[namespace] = RedisKVStorage(namespace, config)
        await storages[namespace].upsert(table)
    return Stores({**storages}, storages[CHUNKS].sync)


def main() -> None:
    """Measure each call both ways and print a row for it."""
    data = build()
    loop = asyncio.new_event_loop()
    with running_server() as server:
        ways = {way: loop.run_until_complete(opened(server, data, way)) for way in WAYS}
        print(
            "| microseconds of an item | direct | pool | pool ÷ direct |\n"
            "| --- | ---: | ---: | ---: |"
        )
        for workload in workloads(data):
            if workload.name in LEFT_OUT:
                continue
            actions = {way: partial(workload.action, stores) for way, stores in ways.items()}
            series = measure(loop, actions, workload.items, SECONDS)
            direct, pool = series["direct"], series["pool"]
            ratio = pool.ratio(direct)
            print(
                f"| {workload.title} | {direct.per_item:.1f} | {pool.per_item:.1f} | {ratio:.2f} |"
            )
    loop.close()


if __name__ == "__main__":
    main()
