"""A cluster whose primaries die and whose slots move while it is used."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from nano_graphrag_redis import RedisKVStorage, StorageStats, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import DurabilityError, StorageUnavailableError
from support.cluster import NODE_TIMEOUT, RedisCluster
from support.conditions import eventually
from support.proxy import Proxy
from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row
from .test_load import OUR_THREADS
from .test_lost_replies import writers_are_told_the_truth

AFTER_NODE_TIMEOUT = 2.0
"""Seconds in which a replica has taken over and is found, once its primary is taken for dead."""


@pytest.fixture
def cluster(server_binary: Path) -> Iterator[RedisCluster]:
    """A cluster of this test alone."""
    with RedisCluster(server_binary) as running:
        yield running


def settings_for(cluster: RedisCluster, **more: Any) -> dict[str, Any]:
    return {"redis_url": cluster.url, "redis_cluster": True, **more}


@pytest.mark.row(1)
def test_replies_of_a_cluster_are_lost_and_nobody_is_told_a_wrong_success(
    row: Row, server_binary: Path
) -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(RedisCluster(server_binary, replicas=False))
        proxies = [stack.enter_context(Proxy(server.port)) for server in cluster.servers]
        servers = zip(cluster.servers, proxies, strict=True)
        cluster.behind({server.port: proxy.port for server, proxy in servers})
        writers_are_told_the_truth(
            row, settings_for(cluster, redis_url=proxies[0].url), proxies=proxies
        )


TEN_THOUSAND_READS = """
import redis

async def main():
    ids = [f"id-{number}" for number in range(10_000)]
    async with RedisKVStorage("full_docs", {"redis_url": URL, "redis_cluster": True}) as storage:
        await storage.upsert({id: id for id in ids})
        answers = await asyncio.gather(*map(storage.get_by_id, ids))
        print(sum(answer != id for id, answer in zip(ids, answers)))
        with open("/proc/self/status") as status:
            print(next(line.split()[1] for line in status if line.startswith("Threads:")))
        for url in sys.argv[1:]:
            with redis.Redis.from_url(url) as client:
                clients = client.client_list()
            print(sum(c["name"] == f"nano-graphrag-redis:{os.getpid()}" for c in clients))

asyncio.run(main())
"""


@pytest.mark.row(32)
def test_ten_thousand_calls_at_once_take_a_handful_of_sockets_to_each_primary(
    row: Row, cluster: RedisCluster
) -> None:
    urls = [server.url for server in cluster.servers[:3]]
    out = run_script(TEN_THOUSAND_READS, *urls).cleanly()
    wrong, threads, *sockets = map(int, out.split())
    row.none("wrong answers of a cluster", wrong, of=10_000)
    row.at_most("threads of a cluster's client", threads, (os.cpu_count() or 1) + OUR_THREADS)
    row.at_most("sockets to a primary", max(sockets), 50)


# A slot is moved key by key: each key is somewhere all the time, and its slot at two places.
@pytest.mark.row(17)
def test_slots_that_move_under_load_are_noticed_by_nobody(row: Row, cluster: RedisCluster) -> None:
    ids = [f"id-{number}" for number in range(200)]
    rounds, moves = row.pick(quick=(3, 20), full=(8, 60))
    moved: list[int] = []
    slots = [key_slot(key(id).encode()) for id in ids]
    done = asyncio.Event()
    calls = 0

    async def use(storage: RedisKVStorage, worker: int) -> None:
        nonlocal calls
        mine, sequence = ids[worker::8], 0
        while not done.is_set():
            sequence += 1
            await storage.upsert(dict.fromkeys(mine, sequence))
            assert await storage.get_by_ids(mine) == [sequence] * len(mine)
            assert await storage.get_by_id(mine[0]) == sequence
            assert await storage.filter_keys([*mine, "none"]) == {"none"}
            assert await storage.delete_by_ids([*mine[:2], "none"]) == 2
            calls += 5

    def move_around() -> None:
        primaries = cluster.servers[:3]
        at = {slot: primaries.index(cluster.owner_of(slot)) for slot in set(slots)}
        # To one primary after the other, each time until all have heard of it: a cluster whose
        # slots are sent on before does not agree on them for ever, whatever its clients do.
        for turn in range(rounds):
            target = turn % 3
            for slot in [slot for slot in at if at[slot] != target][:moves]:
                cluster.move(slot, primaries[at[slot]], primaries[target])
                at[slot] = target
                moved.append(slot)
            owners = {slot: primaries[place] for slot, place in at.items()}
            eventually(lambda: cluster.agrees(owners))  # noqa: B023 - called before it returns

    async def main() -> StorageStats:
        async with RedisKVStorage("full_docs", settings_for(cluster)) as storage:
            workers = [asyncio.ensure_future(use(storage, worker)) for worker in range(8)]
            try:
                await asyncio.to_thread(move_around)
            finally:
                done.set()
                await asyncio.gather(*workers)
            assert len(await storage.all_keys()) == len(ids) - 16
            return await storage.get_stats()

    stats = asyncio.run(main())
    row.saw("slots moved", len(moved))
    row.saw("commands sent again", stats["retries"])
    assert stats["retries"] > 0, "no command met a slot that had moved: the test shows nothing"
    row.none("errors", 0, of=calls)


# A move that was broken off: what is there stays, what is new goes where the slot is to be.
@pytest.mark.row(17)
def test_a_slot_that_stays_on_its_way_is_used_at_both_ends(row: Row, cluster: RedisCluster) -> None:
    with SyncRedisKVStorage("full_docs", settings_for(cluster)) as storage:
        storage.upsert({"{slot}old": 1})
        slot = key_slot(key("{slot}").encode())
        source = cluster.owner_of(slot)
        target = next(server for server in cluster.servers[:3] if server is not source)
        cluster.begin_move(slot, source, target)
        ids = ["{slot}old", "{slot}new", "{slot}none"]
        storage.upsert({"{slot}new": 2})
        assert storage.get_by_ids(ids) == [1, 2, None]
        assert cluster.admin(target).dbsize() == 1
        assert storage.delete_by_ids(ids) == 2
        assert storage.filter_keys(ids) == set(ids)
    row.none("errors at a slot on its way", 0, of=10)


@pytest.mark.row(18)
def test_braces_in_ids_make_no_difference(
    row: Row, cluster: RedisCluster, server: RedisServer
) -> None:
    count = row.pick(quick=3_000, full=100_000)
    shapes = ["{%d}", "{%d", "%d}", "{}%d", "{{%d}}", "a{%d}b{c}", "}%d{", "{a}%d", "%d{}"]
    ids = [shapes[number % len(shapes)] % number for number in range(count)]
    values = {id: {"n": number} for number, id in enumerate(ids)}

    def outcomes(settings: dict[str, Any]) -> list[Any]:
        with SyncRedisKVStorage("full_docs", settings) as storage:
            storage.upsert(values)
            found = [
                storage.get_by_ids(ids),
                sorted(storage.all_keys()),
                storage.filter_keys([*ids[:100], "{none}"]),
                storage.delete_by_ids(ids[::3]),
                storage.filter_keys(ids),
                storage.get_stats()["key_count"],
            ]
            assert storage.get_stats()["retries"] == 0, "commands went to the wrong server"
            storage.drop()
            return [*found, storage.all_keys()]

    alone, spread = outcomes({"redis_url": server.url}), outcomes(settings_for(cluster))
    differ = sum(one != other for one, other in zip(alone[0], spread[0], strict=True))
    assert alone[0] == list(values.values())
    assert alone[1:] == spread[1:]
    row.none("differences", differ, of=count)


@dataclass
class Outage:
    """What writers met.

    Attributes:
        proved: Of each id, the highest number that a barrier of `replicas:1` came after.
        written: Of each id, the highest number that was tried.
        failed: When calls failed.
        passed: When writes of each id passed.
    """

    proved: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    failed: list[float] = field(default_factory=list)
    passed: dict[str, list[float]] = field(default_factory=dict)


@pytest.mark.row(7)
def test_a_primary_dies_under_load_and_its_replica_has_what_was_proved(
    row: Row, cluster: RedisCluster
) -> None:
    seen = Outage()
    kills = row.pick(quick=1, full=3)
    settings = settings_for(
        cluster,
        redis_durability="replicas:1",
        redis_durability_timeout=0.5,
        redis_socket_timeout=1.0,
        redis_operation_timeout=2.0,
    )
    outages = asyncio.run(kill_under_load(cluster, settings, seen, kills))
    with SyncRedisKVStorage("full_docs", settings) as storage:
        values = dict(zip(seen.written, storage.get_by_ids(seen.written), strict=True))
    assert sum(seen.proved.values()) > 0, "nothing was proved: the test shows nothing"
    lost = [id for id, least in seen.proved.items() if (values[id] or 0) < least]
    row.none("ids whose proved writes are lost", len(lost), of=len(seen.proved))
    row.saw("failed calls", len(seen.failed))
    row.within("outage", max(outages), NODE_TIMEOUT + AFTER_NODE_TIMEOUT)


async def kill_under_load(
    cluster: RedisCluster, settings: dict[str, Any], seen: Outage, kills: int
) -> list[float]:
    """Kills one primary after the other; how long each was missed."""
    done = asyncio.Event()

    async def write(storage: RedisKVStorage, id: str) -> None:
        while not done.is_set():
            seen.written[id] += 1
            number = seen.written[id]
            try:
                await storage.upsert({id: number})
                seen.passed.setdefault(id, []).append(time.monotonic())
                await storage.index_done_callback()
                seen.proved[id] = number
            except DurabilityError:
                pass
            except StorageUnavailableError:
                seen.failed.append(time.monotonic())
            await asyncio.sleep(0.01)

    outages = []
    async with RedisKVStorage("full_docs", settings) as storage:
        writers = [asyncio.ensure_future(write(storage, f"id-{n}")) for n in range(24)]
        for number in range(kills):
            victim = await asyncio.to_thread(cluster.primary_of, key(f"id-{number}"))
            await asyncio.sleep(0.5)
            outages.append(await outage_of(cluster, victim, seen))
            await asyncio.to_thread(eventually, cluster.is_whole)
        done.set()
        await asyncio.gather(*writers)
    return outages


async def outage_of(cluster: RedisCluster, victim: RedisServer, seen: Outage) -> float:
    """Seconds from a primary's death until all its ids are written to again."""
    owned = {id: await asyncio.to_thread(cluster.primary_of, key(id)) for id in seen.written}
    mine = [id for id, server in owned.items() if server is victim]
    died = time.monotonic()
    victim.kill()

    def back() -> list[float]:
        after = [[at for at in seen.passed[id] if at > died] for id in mine]
        return [min(times, default=0.0) for times in after]

    await asyncio.to_thread(eventually, lambda: all(back()))
    outage = max(back()) - died
    await asyncio.to_thread(victim.start)
    late = [at for at in seen.failed if at > died + outage + 1.0]
    assert not late, "calls failed when all ids were served again"
    return outage


def key(id: str) -> str:
    return f"nano_graphrag:full_docs:{id}"
