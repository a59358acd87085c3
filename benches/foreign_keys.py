"""What other programs' keys in the same database cost: drop, counts and listings of 60 reports.

Prints two tables: the calls with and without a registry, beside a redis-py loop; and what COUNT of
SCAN does to the walk and to the answers another client waits for meanwhile.

Run: .venvs/bench/bin/python -m benches.foreign_keys
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import redis

from benches.payloads import Table, build
from benches.server import HOST, Server, running_server
from benches.stage import require_hiredis
from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config import RedisConfig

REPORTS = 60
FOREIGN = 1_000_000
BATCH = 1_000
ROUNDS = 7
COUNTS = (10, 100, 300, 1_000, 3_000, 10_000)
NAMESPACE = "community_reports"
PATTERN = f"nano_graphrag:{NAMESPACE}:*"


def seconds(call: Callable[[], object], prepare: Callable[[], object]) -> float:
    """The median time of a call, prepared anew each time."""
    times = []
    for _ in range(ROUNDS):
        prepare()
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def fill(client: redis.Redis) -> None:
    """Sets the keys of others."""
    pipeline = client.pipeline(transaction=False)
    for start in range(0, FOREIGN, BATCH):
        pipeline.mset({f"foreign:{n}": "x" * 16 for n in range(start, start + BATCH)})
        pipeline.execute()


def calls(server: Server, reports: Table) -> dict[str, list[float]]:
    """Milliseconds of each call, by who makes it."""
    settings: dict[str, Any] = {"redis_url": server.url}
    with ExitStack() as stack:
        plain = stack.enter_context(SyncRedisKVStorage(NAMESPACE, settings))
        listed = stack.enter_context(
            SyncRedisKVStorage("listed_reports", settings | {"redis_registry": True})
        )
        client = stack.enter_context(redis.Redis(server.host, server.port))
        listed.drop()

        def redis_py(count: int | None) -> Callable[[], object]:
            def drop() -> None:
                for key in client.scan_iter(PATTERN, count=count):
                    client.unlink(key)

            return drop

        def write_plain() -> None:
            plain.upsert(reports)

        def write_listed() -> None:
            listed.upsert(reports)

        rows: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "drop, redis-py `scan_iter`": (redis_py(None), write_plain),
            "drop, redis-py `scan_iter(count=1000)`": (redis_py(1_000), write_plain),
            "drop, registry off": (plain.drop, write_plain),
            "drop, registry on": (listed.drop, write_listed),
            "`all_keys`, registry off": (plain.all_keys, write_plain),
            "`all_keys`, registry on": (listed.all_keys, write_listed),
            "`get_stats(light=True)`, registry off": (
                lambda: plain.get_stats(light=True),
                write_plain,
            ),
            "`get_stats(light=True)`, registry on": (
                lambda: listed.get_stats(light=True),
                write_listed,
            ),
            "upsert, registry off": (write_plain, lambda: None),
            "upsert, registry on": (write_listed, lambda: None),
        }
        return {name: [seconds(*row) * 1e3] for name, row in rows.items()}


def another_client(port: int, pipe: Connection) -> None:
    """GETs one key until told to stop; sends the microseconds of each."""
    client = redis.Redis(HOST, port)
    client.set("mine", "x")
    times = []
    pipe.send(None)
    while not pipe.poll():
        began = time.perf_counter()
        client.get("mine")
        times.append((time.perf_counter() - began) * 1e6)
    pipe.send(times)


def meanwhile(server: Server, call: Callable[[], object]) -> tuple[float, list[float]]:
    """Milliseconds of a call, and microseconds of each GET of another client during it."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    other = multiprocessing.get_context("spawn").Process(
        target=another_client, args=(server.port, theirs)
    )
    other.start()
    ours.recv()
    began = time.perf_counter()
    call()
    taken = time.perf_counter() - began
    ours.send(None)
    times: list[float] = ours.recv()
    other.join()
    return taken * 1e3, times


def walks(server: Server) -> None:
    """Prints what each COUNT does."""
    core = BlockingKvStore(RedisConfig(redis_url=server.url).core_settings(NAMESPACE))

    def walk(count: int) -> Callable[[], object]:
        def whole() -> None:
            cursor = -1
            while cursor:
                cursor, _keys = core.scan(max(cursor, 0), PATTERN.encode(), count)

        return whole

    print("| COUNT | the walk, ms | GET of another client meanwhile, µs: median | p99 | p99.9 |")
    print("| --- | --- | --- | --- | --- |")
    for count in (0, *COUNTS):
        quiet = count == 0
        runs = [
            meanwhile(server, (lambda: time.sleep(1)) if quiet else walk(count))
            for _ in range(ROUNDS)
        ]
        taken = statistics.median(run[0] for run in runs)
        cuts = [statistics.quantiles(run[1], n=1_000) for run in runs]
        median, p99, p999 = (statistics.median(cut[at] for cut in cuts) for at in (499, 989, 998))
        name = "no walk" if quiet else f"{count:,}"
        walked = "" if quiet else f"{taken:.0f}"
        print(f"| {name} | {walked} | {median:.0f} | {p99:.0f} | {p999:.0f} |")
        sys.stdout.flush()
    core.close()


def main() -> None:
    """Prints both tables."""
    require_hiredis()
    reports = dict(list(build().community_reports.items())[:REPORTS])
    with running_server() as server, redis.Redis(server.host, server.port) as client:
        print(f"{server.version}; the median of {ROUNDS} rounds\n")
        table = calls(server, reports)
        client.flushall()
        fill(client)
        for name, column in calls(server, reports).items():
            table[name] += column
        print(f"| call on {REPORTS} reports, ms | alone | among {FOREIGN:,} foreign keys |")
        print("| --- | --- | --- |")
        for name, (alone, among) in table.items():
            print(f"| {name} | {alone:.2f} | {among:.2f} |")
        print()
        walks(server)


if __name__ == "__main__":
    main()
