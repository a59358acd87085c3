"""A cluster of three on loopback: this library beside redis-py's cluster client, and one server.

The peer is the straightforward storage with `redis.asyncio.RedisCluster` in the place of its
client: one command for each id, pipelined. Prints medians, and the median of the rounds' ratios.

Run: .venvs/bench/bin/python -m benches.cluster
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import redis
import redis.asyncio

from benches.measure import measure
from benches.payloads import Payloads, build
from benches.peers import TTL
from benches.peers.straightforward import StraightforwardReader, StraightforwardStorage
from benches.server import Server, free_port, running_server
from benches.stage import require_hiredis, store_and_compare
from benches.workload import CHUNKS, Stores
from benches.workloads import workloads
from nano_graphrag_redis import RedisKVStorage

SECONDS = 4.0
SLOTS = 16_384
LEFT_OUT = ("get-near", "llm-call")
SOCKETS = 512  # to each server, at most: one for each of the most callers at once


class ClusterStorage(StraightforwardStorage):
    """The same code over the cluster client."""

    def __init__(self, client: redis.asyncio.RedisCluster, namespace: str) -> None:
        self._redis: Any = client
        self._prefix = f"peer:{namespace}:"
        self._ttl = TTL.get(namespace)


@contextmanager
def running_cluster() -> Iterator[list[Server]]:
    """Three primaries without replicas."""
    with ExitStack() as stack:
        buses = [free_port() for _ in range(3)]
        options = [("--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in buses]
        servers = [stack.enter_context(running_server(*words)) for words in options]
        clients = [stack.enter_context(redis.Redis.from_url(server.url)) for server in servers]
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        for epoch, client in enumerate(clients):
            client.cluster("SET-CONFIG-EPOCH", epoch + 1)
            client.cluster("ADDSLOTSRANGE", bounds[epoch], bounds[epoch + 1] - 1)
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            clients[0].cluster("MEET", server.host, server.port, bus)
        while not all(b"state:ok" in c.execute_command("CLUSTER", "INFO") for c in clients):
            time.sleep(0.05)
        yield servers


async def ours(url: str, data: Payloads, prefix: str, **settings: Any) -> Stores:
    storages = {}
    for namespace, table in data.tables().items():
        config = {"redis_url": url, "redis_key_prefix": prefix, **settings}
        storages[namespace] = RedisKVStorage(namespace, config)
        await store_and_compare(prefix, storages[namespace], namespace, table)
    return Stores({**storages}, storages[CHUNKS].sync)


async def theirs(url: str, data: Payloads) -> Stores:
    storages = {}
    for namespace, table in data.tables().items():
        client = redis.asyncio.RedisCluster.from_url(url, max_connections=SOCKETS)
        storages[namespace] = ClusterStorage(client, namespace)
        await store_and_compare("redis-py", storages[namespace], namespace, table)
    blocking: Any = redis.RedisCluster.from_url(url)
    return Stores({**storages}, StraightforwardReader(blocking, f"peer:{CHUNKS}:"))


def main() -> None:
    """Measure each call on all three and print a row for it."""
    require_hiredis()
    data = build()
    loop = asyncio.new_event_loop()
    with running_cluster() as servers, running_server() as alone:
        urls = ",".join(server.url for server in servers)
        ways = {
            "cluster": loop.run_until_complete(ours(urls, data, "ours", redis_cluster=True)),
            "one server": loop.run_until_complete(ours(alone.url, data, "ours")),
            "redis-py": loop.run_until_complete(theirs(servers[0].url, data)),
        }
        print(f"{alone.version}\n")
        print("| | µs an item | ÷ one server | redis-py ÷ it |\n| --- | ---: | ---: | ---: |")
        for workload in workloads(data):
            if workload.name in LEFT_OUT:
                continue
            actions = {way: partial(workload.action, stores) for way, stores in ways.items()}
            series = measure(loop, actions, workload.items, SECONDS)
            cluster = series["cluster"]
            one = cluster.ratio(series["one server"])
            peer = series["redis-py"].ratio(cluster)
            figures = f"{cluster.per_item:.1f} | {one:.2f} | {peer:.1f}"
            print(f"| {workload.title} | {figures} |", flush=True)
        for stores in ways.values():
            for storage in stores.by_namespace.values():
                loop.run_until_complete(storage.close())
    loop.close()


if __name__ == "__main__":
    main()
