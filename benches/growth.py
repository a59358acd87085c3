"""What an item costs as the work grows: ids, size of a value, callers, entries already there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

from benches.measure import Series, measure
from benches.payloads import Payloads, Table, Value
from benches.peers import FILES, Storage
from benches.server import Server
from benches.stage import Entrant

NAMESPACE = "growth"
MIN_ROUNDS = 5
MOST_OFTEN = 10_000  # ids in a call; with more it takes seconds, and the fewest rounds are two
MIN_ITEMS = 200  # of one timing, so that a small batch is repeated
FEW = 10  # of a sequential call that takes milliseconds
LARGE = 100_000  # bytes: from here on a call takes that long
BATCH = 100  # large values in one call
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
    batches: bool = False
    """A size is a number of ids."""


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
            rounds = MIN_ROUNDS if size <= MOST_OFTEN or not sweep.batches else 2
            points[size] = measure(loop, actions, sweep.items(size), budget, rounds)
        curves.append(Curve(sweep, points))
    return curves


def sweeps(payloads: Payloads, max_callers: int) -> list[Sweep]:
    """The sweeps, in the order of the report.

    The callers come last: some peers keep a socket open for each of 10,000.
    """
    return [*_ids(), *_value_size(), _entries(payloads), _callers(payloads, max_callers)]


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
        Sweep(name, title, axis, sizes, write, run, _items, batches=True)
        for name, title, run in (
            ("upsert-ids", "upsert, values of 100 bytes", write),
            ("get-ids", "get_by_ids, values of 100 bytes", read),
        )
    ]


def _batches(size: int) -> int:
    return max(1, MIN_ITEMS // size)


def _items(size: int) -> int:
    return size * _batches(size)


def _value_size() -> list[Sweep]:
    large = [f"large-{n}" for n in range(BATCH)]

    def value(size: int) -> Value:
        return {"content": (SMALL * (size // len(SMALL) + 1))[:size]}

    def repeats(size: int) -> int:
        return MIN_ITEMS if size < LARGE else FEW

    async def write_one(storage: Storage, size: int) -> None:
        await storage.upsert({large[0]: value(size)})

    async def write(storage: Storage, size: int) -> None:
        await storage.upsert({id: value(size) for id in large})

    async def read_one(storage: Storage, size: int) -> object:
        return [await storage.get_by_id(large[0]) for _ in range(repeats(size))]

    async def read(storage: Storage, _size: int) -> object:
        return await storage.get_by_ids(large)

    axis, sizes = "bytes of the value", (1_000, 10_000, 100_000, 1_000_000)
    alone, together = "get_by_id, one after another", f"get_by_ids, {BATCH} values"
    return [
        Sweep("value-size", alone, axis, sizes, write_one, read_one, repeats),
        Sweep("value-sizes", together, axis, sizes[1:], write, read, lambda _size: BATCH),
    ]


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

    def repeats(entries: int) -> int:
        """Fewer where the files take longer."""
        return max(FEW, min(MIN_ITEMS, 20_000 // entries))

    async def write(storage: Storage, entries: int) -> None:
        await storage.upsert({f"answer-{n}": answer for n in range(entries)})

    async def add(storage: Storage, entries: int) -> None:
        for number in range(repeats(entries)):
            await storage.upsert({f"answer-{number % entries}": answer})
            await storage.index_done_callback()

    title, axis = "one more cached answer: upsert, save", "answers already there"
    return Sweep("entries", title, axis, (100, 1_000, 10_000), write, add, repeats, files=True)
