"""Calls that are cancelled at any instant, while replies are slow."""

from __future__ import annotations

import asyncio
import random

import pytest

from bridge.test_cancellation import IDS, cancel_half
from support.conditions import descriptors, threads
from support.proxy import Proxy

from .conftest import OpenStorage
from .rows import Row


# Replies come in order, so a request that is forgotten would hand its answer to the next one.
@pytest.mark.row(2)
def test_no_answer_reaches_another_caller_however_many_are_cancelled(
    row: Row, proxy: Proxy, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_url=proxy.url)
    wanted = row.pick(quick=1_000, full=20_000)

    async def main() -> int:
        await storage.upsert({id: id for id in IDS})
        assert await storage.get_by_ids(IDS) == IDS
        before = (threads(), descriptors(), len(asyncio.all_tasks()))
        proxy.delay = 0.02
        chance = random.Random(11)
        cancelled = 0
        while cancelled < wanted:
            cancelled += await cancel_half(storage, chance)
        proxy.delay = 0
        assert await storage.get_by_ids(IDS) == IDS
        stats = await storage.get_stats(light=True)
        assert stats["requests_in_flight"] <= 1  # the one that asks
        assert len(asyncio.all_tasks()) == before[2]
        row.at_most("threads more than before", threads() - before[0], 0)
        # The pool may have grown under load: a connection is two descriptors through a proxy.
        grown = 4 * stats["connections"]
        row.at_most("descriptors beside connections", descriptors() - before[1] - grown, 0)
        return cancelled

    cancelled = asyncio.run(main())
    row.none("answers of others", 0, of=cancelled)
