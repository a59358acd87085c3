"""A task that ticks beside calls on very many ids."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import pytest

from .conftest import OpenStorage
from .rows import Row

PROMISED = 0.010
TICK = 0.0005

P = ParamSpec("P")


def on_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a test on an event loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@dataclass
class Gap:
    """The longest time between two turns of the loop: on the clock, and of its thread's work."""

    passed: float = 0.0
    worked: float = 0.0


async def longest_gap(call: Callable[[], Awaitable[object]]) -> Gap:
    """What a task that ticks sees while the call runs."""
    longest = Gap()

    async def tick() -> None:
        passed, worked = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(TICK)
            now, work = time.perf_counter(), time.thread_time()
            longest.passed = max(longest.passed, now - passed)
            longest.worked = max(longest.worked, work - worked)
            passed, worked = now, work

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(2 * TICK)
    # Kept: a million strings are freed at once by whoever lets go of them, and that is the caller.
    kept = await call()
    await asyncio.sleep(2 * TICK)
    ticking.cancel()
    del kept
    return longest


@pytest.mark.row(56)
@on_a_loop
async def test_the_loop_has_its_turn_beside_calls_on_very_many_ids(
    row: Row, open_storage: OpenStorage
) -> None:
    storage = open_storage()
    count = row.pick(quick=100_000, full=1_000_000)
    data = {f"chunk-{number:032d}": {"content": "x" * 20} for number in range(count)}
    ids = list(data)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "upsert": lambda: storage.upsert(data),
        "all_keys": storage.all_keys,
        "get_by_ids": lambda: storage.get_by_ids(ids),
        "filter_keys": lambda: storage.filter_keys(ids),
        "delete_by_ids": lambda: storage.delete_by_ids(ids),
        "drop": storage.drop,
    }
    # The collector walks all objects at once, whoever made them.
    gc.collect()
    gc.disable()
    try:
        for name, call in calls.items():
            gap = await longest_gap(call)
            row.saw(f"{name} of {count:,}, on the clock of a shared machine", gap.passed)
            row.within(f"{name} of {count:,}", gap.worked, promised=PROMISED)
    finally:
        gc.enable()


@on_a_loop
async def test_a_dict_that_changes_while_it_is_read_is_refused_as_a_whole(
    open_storage: OpenStorage,
) -> None:
    storage = open_storage()
    data = {str(number): {"n": number} for number in range(50_000)}
    writing = asyncio.ensure_future(storage.upsert(data))
    await asyncio.sleep(0)
    data["one more"] = {"n": -1}
    with pytest.raises(RuntimeError, match="changed size"):
        await writing
    assert await storage.all_keys() == []


@pytest.mark.parametrize("call", ["get_by_ids", "filter_keys", "delete_by_ids"])
@on_a_loop
async def test_a_list_that_changes_while_it_is_read_is_refused(
    call: str, open_storage: OpenStorage
) -> None:
    storage = open_storage()
    ids = [str(number) for number in range(50_000)]
    calling = asyncio.ensure_future(getattr(storage, call)(ids))
    await asyncio.sleep(0)
    del ids[40_000:]
    with pytest.raises(RuntimeError, match="changed size"):
        await calling


@on_a_loop
async def test_what_is_read_at_once_may_change_while_the_call_is_under_way(
    open_storage: OpenStorage,
) -> None:
    storage = open_storage()
    data = {str(number): {"n": number} for number in range(8_000)}
    ids = list(data)
    writing = asyncio.ensure_future(storage.upsert(data))
    await asyncio.sleep(0)
    data.clear()
    await writing
    reading = asyncio.ensure_future(storage.get_by_ids(ids))
    await asyncio.sleep(0)
    ids.clear()
    assert await reading == [{"n": number} for number in range(8_000)]


@pytest.mark.parametrize("count", [8_191, 8_192, 8_193, 20_000])
@on_a_loop
async def test_calls_on_many_ids_give_what_calls_on_few_do(
    count: int, open_storage: OpenStorage
) -> None:
    storage = open_storage()
    data = {f"ö-{number}": {"n": number} for number in range(count)}
    await storage.upsert(data)
    assert sorted(await storage.all_keys()) == sorted(data)
    asked = [*data, "none", *reversed(data)]
    values = [*data.values(), None, *reversed(data.values())]
    assert await storage.get_by_ids(asked) == values
    assert await storage.get_by_ids(dict.fromkeys(asked), fields={"n"}) == values[: count + 1]
    assert await storage.filter_keys(f"ö-{number}" for number in range(count + 5)) == {
        f"ö-{number}" for number in range(count, count + 5)
    }
    assert await storage.delete_by_ids(set(data)) == count
    assert await storage.all_keys() == []


@pytest.mark.parametrize("wrong", [7, "\ud800"])
@on_a_loop
async def test_an_id_that_is_none_is_found_wherever_it_lies(
    wrong: Any, open_storage: OpenStorage
) -> None:
    storage = open_storage()
    ids = [*(str(number) for number in range(20_000)), wrong]
    for call in (
        storage.get_by_ids(ids),
        storage.filter_keys(ids),
        storage.delete_by_ids(ids),
        storage.upsert({id: {} for id in ids}),
    ):
        with pytest.raises(TypeError):
            await call
    assert await storage.all_keys() == []
