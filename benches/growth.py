"""What an item costs as the work grows: ids, size of a value, callers, entries already there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

from benches.measure import Series, measure
from benches.payloads import Payloads, Table
from benches.peers import FILES, Storage
from benches.server import Server
from benches.stage import Entrant

NAMESPACE = "growth"
MIN_ROUNDS = 2  # a call of 100,000 ids takes seconds
REPEATS = 10  # of a sequential call, which is over too soon to be timed once
MIN_ITEMS = 200  # of one timing, so that a small batch is repeated
SMALL = "Marley was dead: to begin with. There is no doubt whatever about that."

Step = Callable[[Storage, int], Awaitable[object]]


@dataclass(frozen=True)
class Sweep:
    """One workload at several sizes."""

    name: str
    title: str
    axis: str
    sizes: tuple[int, ...]
    prepare: Step
    """Stores what the size needs, untimed."""
    run: Step
    items: Callable[[int], int]
    """How many items one run is."""
    files: bool = False
    """JsonKVStorage does comparable work here."""


@dataclass(frozen=True)
class Curve:
    """What one sweep measured: a series of every peer, at every size."""

    sweep: Sweep
    points: dict[int, dict[str, Series]]


async def open_growth(entrants: list[Entrant], server: Server) -> dict[str, Storage]:
    """One more storage of each peer, for what only the sweeps store."""
    for entrant in entrants:
        extra = await entrant.peer.open(server, NAMESPACE)
        entrant.stores.by_namespace[NAMESPACE] = extra  # so that it is closed with the others
    return {each.peer.name: each.stores.by_namespace[NAMESPACE] for each in entrants}


def measure_growth(
    loop: asyncio.AbstractEventLoop,
    storages: dict[str, Storage],
    payloads: Payloads,
    max_callers: int,
    budget: float,
) -> list[Curve]:
    """Every sweep, all peers in turn; `budget` is seconds for each size."""
    curves = []
    for sweep in sweeps(payloads, max_callers):
        entrants = {name: each for name, each in storages.items() if sweep.files or name != FILES}
        points = {}
        for size in sweep.sizes:
            for storage in entrants.values():
                loop.run_until_complete(sweep.prepare(storage, size))
            actions = {
                name: partial(partial, sweep.run, each, size) for name, each in entrants.items()
            }
            points[size] = measure(loop, actions, sweep.items(size), budget, MIN_ROUNDS)
        curves.append(Curve(sweep, points))
    return curves


def sweeps(payloads: Payloads, max_callers: int) -> list[Sweep]:
    """The sweeps, in the order of the report."""
    return [*_ids(), _value_size(), _callers(payloads, max_callers), _entries(payloads)]


def _ids() -> list[Sweep]:
    sizes = (1, 10, 100, 1_000, 10_000, 100_000)
    table: Table = {f"id-{n}": {"number": n, "content": SMALL} for n in range(sizes[-1])}
    ids = list(table)
    tables = {size: {id: table[id] for id in ids[:size]} for size in sizes}

    async def write(storage: Storage, size: int) -> None:
        for _ in range(_batches(size)):
            await storage.upsert(tables[size])

    async def read(storage: Storage, size: int) -> object:
        return [await storage.get_by_ids(ids[:size]) for _ in range(_batches(size))]

    axis = "ids in the call"
    return [
        Sweep("upsert-ids", "upsert, values of 100 bytes", axis, sizes, write, write, _items),
        Sweep("get-ids", "get_by_ids, values of 100 bytes", axis, sizes, write, read, _items),
    ]


def _batches(size: int) -> int:
    return max(1, MIN_ITEMS // size)


def _items(size: int) -> int:
    return size * _batches(size)


def _value_size() -> Sweep:
    async def write(storage: Storage, size: int) -> None:
        await storage.upsert({"large": {"content": (SMALL * (size // len(SMALL) + 1))[:size]}})

    async def read(storage: Storage, _size: int) -> object:
        return [await storage.get_by_id("large") for _ in range(REPEATS)]

    title, axis = "get_by_id, one after another", "bytes of the value"
    sizes = (1_000, 10_000, 100_000, 1_000_000)
    return Sweep("value-size", title, axis, sizes, write, read, lambda _size: REPEATS)


def _callers(payloads: Payloads, most: int) -> Sweep:
    table = payloads.text_chunks
    ids = list(table)

    async def write(storage: Storage, _size: int) -> None:
        await storage.upsert(table)

    async def read(storage: Storage, callers: int) -> object:
        wave = list(islice(cycle(ids), callers))
        return [
            await asyncio.gather(*map(storage.get_by_id, wave)) for _ in range(_batches(callers))
        ]

    sizes = tuple(size for size in (1, 10, 100, 1_000, 10_000) if size <= most)
    return Sweep(
        "callers", "get_by_id of chunks, all at once", "callers", sizes, write, read, _items
    )


def _entries(payloads: Payloads) -> Sweep:
    answer = next(iter(payloads.llm_response_cache.values()))

    async def write(storage: Storage, entries: int) -> None:
        await storage.upsert({f"answer-{n}": answer for n in range(entries)})

    async def add(storage: Storage, _entries: int) -> None:
        for number in range(REPEATS):
            await storage.upsert({f"answer-{number}": answer})
            await storage.index_done_callback()

    title, axis = "one more cached answer: upsert, save", "answers already there"
    sizes = (100, 1_000, 10_000)
    return Sweep("entries", title, axis, sizes, write, add, lambda _size: REPEATS, files=True)
