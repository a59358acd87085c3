"""Replies that never arrive: what callers are told must agree with what the server has."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.checker import CONFIRMED, UNKNOWN, Checker
from support.proxy import Proxy

from .conftest import OpenStorage
from .rows import Row

WRITERS = 8
CUTS = 0.1
"""How likely a piece of a reply is lost, and its connection with it."""


# A delete that is sent again finds nothing and says so; a write that is not may be missing.
@pytest.mark.row(1)
def test_with_a_tenth_of_the_replies_lost_nobody_is_told_a_wrong_success(
    row: Row, proxy: Proxy, open_storage: OpenStorage
) -> None:
    # Few attempts and no breaker: more is left unknown than a user would see.
    settings: dict[str, Any] = {"redis_max_retries": 1, "redis_breaker_failures": 1_000_000}
    storage = open_storage(redis_url=proxy.url, **settings).sync
    checker = Checker()
    each = row.pick(quick=100, full=1_250)

    def work(writer: int) -> None:
        chance = random.Random(writer)
        ids = [f"{writer}-{number}" for number in range(10)]
        for _ in range(each):
            change_one(storage, checker, chance.choice(ids), deletes=chance.random() < 0.3)

    with ThreadPoolExecutor(WRITERS) as pool:
        storage.check_health()
        proxy.cut_chance = CUTS
        list(pool.map(work, range(WRITERS)))
    proxy.cut_chance = 0.0
    values = dict(zip(checker.ids, open_storage().sync.get_by_ids(checker.ids), strict=True))
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
