"""Replies that never arrive: what callers are told must agree with what the server has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.checker import CONFIRMED, UNKNOWN, Checker
from support.proxy import Proxy, Record
from support.servers import RedisServer
from support.wire import commands, replies

from .conftest import OpenStorage
from .rows import Row

WRITERS = 8
CUTS = 0.1
"""How likely a piece of a reply is lost, and its connection with it."""


PREFIX = b"nano_graphrag:full_docs:"


# A delete that is sent again finds nothing and says so; a write that is not may be missing.
@pytest.mark.row(1)
def test_with_a_tenth_of_the_replies_lost_nobody_is_told_a_wrong_success(
    row: Row, proxy: Proxy
) -> None:
    writers_are_told_the_truth(row, {"redis_url": proxy.url}, proxies=[proxy])


def writers_are_told_the_truth(
    row: Row, settings: dict[str, Any], *, proxies: Sequence[Proxy]
) -> None:
    """Writes and deletes by way of these proxies, which lose a tenth of what comes back."""
    # Few attempts and no breaker: more is left unknown than a user would see.
    few: dict[str, Any] = {"redis_max_retries": 1, "redis_breaker_failures": 1_000_000}
    checker = Checker()
    each = row.pick(quick=100, full=1_250)

    def lose(chance: float) -> None:
        for proxy in proxies:
            proxy.cut_chance = chance

    with SyncRedisKVStorage("full_docs", settings | few) as storage:

        def work(writer: int) -> None:
            chance = random.Random(writer)
            ids = [f"{writer}-{number}" for number in range(10)]
            for _ in range(each):
                change_one(storage, checker, chance.choice(ids), deletes=chance.random() < 0.3)

        storage.check_health()
        lose(CUTS)
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(work, range(WRITERS)))
        lose(0.0)
        values = dict(zip(checker.ids, storage.get_by_ids(checker.ids), strict=True))
    wrong = checker.wrong(values)
    row.saw("unknown outcomes", checker.count(UNKNOWN))
    assert checker.count(UNKNOWN) > 0, "no reply was lost: the test shows nothing"
    assert checker.count(CONFIRMED) > checker.count() / 2
    assert not wrong, wrong
    row.none("wrong values or answers", len(wrong), of=checker.count())


def change_one(storage: SyncRedisKVStorage, checker: Checker, id: str, *, deletes: bool) -> None:
    if deletes:
        with checker.delete(id) as delete:
            delete.was_there = storage.delete_by_id(id)
        return
    with checker.write(id) as write:
        storage.upsert({id: write.sequence})


@pytest.mark.row(16)
def test_a_batch_that_fails_lists_exactly_the_ids_without_a_delivered_ok(
    row: Row, server: RedisServer, open_storage: OpenStorage
) -> None:
    chance = random.Random(16)
    trials = row.pick(quick=60, full=1_000)
    unequal, partly, unsent = 0, 0, 0
    with Proxy(server.port) as proxy:
        for trial in range(trials):
            proxy.records, proxy.cut_for_good = [], False
            proxy.allow()
            retries = trial % 2
            storage = open_storage(
                redis_url=proxy.url, redis_max_retries=retries, redis_operation_timeout=2.0,
                redis_socket_timeout=1.0 + trial / 1e6,  # a set of connections of its own
            )  # fmt: skip
            storage.sync.check_health()
            data = {f"{trial}-{number}": number for number in range(chance.randint(1, 1_000))}
            proxy.cut_for_good = True
            proxy.cut_after_bytes = chance.randint(0, 5 * len(data) - 1)
            with pytest.raises(StorageUnavailableError) as caught:
                upsert(storage, data, awaited=trial % 3 == 0)
            storage.sync.close()
            confirmed = {id for record in proxy.records for id in confirmed_sets(record)}
            unconfirmed = caught.value.unconfirmed_ids
            partly += 0 < len(confirmed) < len(data)
            unequal += sorted(unconfirmed) != sorted(set(data) - confirmed)
            unsent += len(data) > sum(len(list(sets(record))) for record in proxy.records)
    assert partly > trials / 4, "hardly a batch failed half-way: the test shows little"
    row.saw("batches with ids never sent", unsent)
    row.none("lists unequal to the proxy's record", unequal, of=trials)


# Far more requests than may be under way at once; how many connections carry them is only shown.
@pytest.mark.row(16)
def test_of_hundreds_of_requests_at_once_each_call_lists_its_ids_without_a_delivered_ok(
    row: Row, server: RedisServer, open_storage: OpenStorage
) -> None:
    chance = random.Random(64)
    trials = row.pick(quick=12, full=200)
    unequal, partly, shared = 0, 0, 0
    with Proxy(server.port) as proxy:
        for trial in range(trials):
            proxy.records, proxy.cut_for_good = [], False
            proxy.allow()
            storage = open_storage(
                redis_url=proxy.url, redis_max_retries=trial % 2, redis_operation_timeout=2.0,
                redis_max_connections=chance.randint(1, 4), redis_breaker_failures=1_000_000,
                redis_socket_timeout=1.0 + trial / 1e6,  # a set of connections of its own
            )  # fmt: skip
            storage.sync.check_health()
            calls = [
                {f"{trial}-{call}-{number}": number for number in range(chance.randint(64, 256))}
                for call in range(100)
            ]
            proxy.cut_for_good = True
            proxy.cut_after_bytes = chance.randint(0, 5 * sum(map(len, calls)) - 1)
            outcomes = asyncio.run(upserts(storage, calls))
            storage.sync.close()
            confirmed = {id for record in proxy.records for id in confirmed_sets(record)}
            shared += sum(any(True for _ in sets(record)) for record in proxy.records) > 1
            partly += 0 < len(confirmed) < sum(map(len, calls))
            for data, unconfirmed in zip(calls, outcomes, strict=True):
                unequal += unconfirmed != set(data) - confirmed
    assert partly > trials / 2, "hardly a trial failed half-way: the test shows little"
    row.saw("trials over several connections", shared)
    row.none("lists unequal to the proxy's record", unequal, of=trials * 100)


async def upserts(storage: RedisKVStorage, calls: Sequence[dict[str, int]]) -> list[set[str]]:
    """Makes the calls at once; the ids that each of them lists."""

    async def unconfirmed(data: dict[str, int]) -> set[str]:
        try:
            await storage.upsert(data)
        except StorageUnavailableError as error:
            return set(error.unconfirmed_ids)
        return set()

    return await asyncio.gather(*map(unconfirmed, calls))


def upsert(storage: RedisKVStorage, data: dict[str, int], *, awaited: bool) -> None:
    if awaited:
        asyncio.run(storage.upsert(data))
    else:
        storage.sync.upsert(data)


def sets(record: Record) -> Iterator[str]:
    """The ids of the SETs that were sent on a connection."""
    for words in commands(record.sent):
        if words[0] == b"SET":
            yield words[1].removeprefix(PREFIX).decode()


def confirmed_sets(record: Record) -> Iterator[str]:
    """The ids of those whose OK was delivered: replies come in the order of their commands."""
    for words, reply in zip(commands(record.sent), replies(record.delivered), strict=False):
        if words[0] == b"SET" and reply == b"+OK":
            yield words[1].removeprefix(PREFIX).decode()
