"""The calls nano-graphrag makes, as the benchmark repeats them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from benches.measure import Action
from benches.payloads import Payloads, Table, copy
from benches.peers import BlockingReader, Storage

CHUNKS, REPORTS, ANSWERS = "text_chunks", "community_reports", "llm_response_cache"


@dataclass(frozen=True)
class Stores:
    """One peer's open storages, by namespace, and its blocking client of the chunks."""

    by_namespace: dict[str, Storage]
    blocking: BlockingReader | None
    near: Storage | None = None
    """Keeps local copies of the chunks, where the peer can."""

    @property
    def chunks(self) -> Storage:
        return self.by_namespace[CHUNKS]

    @property
    def reports(self) -> Storage:
        return self.by_namespace[REPORTS]

    @property
    def answers(self) -> Storage:
        return self.by_namespace[ANSWERS]


@dataclass(frozen=True)
class Traffic:
    """What a workload moves over the wire, whoever moves it: what the limits are measured on."""

    command: Literal["GET", "SET", "EXISTS"]
    namespace: str
    ids: Sequence[str]
    together: int
    """How many requests are on their way at once; 1 is one after another."""
    one_call: bool = False
    """They are one call's, so they are no independent requests of as many callers."""


@dataclass(frozen=True)
class Workload:
    """A call, repeated. Times are quoted per item: per id, or per `llm-call`."""

    name: str
    title: str
    traffic: Traffic
    run: Callable[[Stores, Table], Awaitable[object]]
    values: Table = field(default_factory=dict)
    """What is written, a copy in each round: a host's values are new, and an encoder may be faster
    with strings it has seen before."""
    blocking: bool = False
    """Runs on the blocking client, so only with peers that have one."""
    files: bool = False
    """JsonKVStorage does comparable work here: it stores something."""
    mixed: bool = False
    """Sends other commands besides `traffic`, so no limit can be measured for it."""

    def action(self, stores: Stores) -> Action:
        """One round on a peer's storages, with values of its own."""
        return partial(self.run, stores, copy(self.values))

    @property
    def items(self) -> int:
        return len(self.traffic.ids)


def workloads(payloads: Payloads) -> list[Workload]:
    """Every workload, in the order of the report."""
    return _reads(payloads) + _batches(payloads) + _writes(payloads) + _local_reads(payloads)


def _reads(payloads: Payloads) -> list[Workload]:
    ids = list(payloads.text_chunks)
    few, many = ids[:200], ids[:512]

    async def one_by_one(stores: Stores, _: Table) -> object:
        return [await stores.chunks.get_by_id(id) for id in few]

    async def blocking(stores: Stores, _: Table) -> object:
        assert stores.blocking is not None
        return [stores.blocking.get_by_id(id) for id in few]

    def concurrent(callers: int) -> Callable[[Stores, Table], Awaitable[object]]:
        async def run(stores: Stores, _: Table) -> object:
            waves = (many[start : start + callers] for start in range(0, len(many), callers))
            return [await asyncio.gather(*map(stores.chunks.get_by_id, wave)) for wave in waves]

        return run

    def traffic(ids: list[str], together: int) -> Traffic:
        return Traffic("GET", CHUNKS, ids, together)

    return [
        Workload("get-sequential", "get_by_id, one after another", traffic(few, 1), one_by_one),
        Workload("get-64", "get_by_id, 64 at once", traffic(many, 64), concurrent(64)),
        Workload("get-512", "get_by_id, 512 at once", traffic(many, 512), concurrent(512)),
        Workload("get-sync", "get_by_id, blocking", traffic(few, 1), blocking, blocking=True),
    ]


def _batches(payloads: Payloads) -> list[Workload]:
    chunks, reports = list(payloads.text_chunks), list(payloads.community_reports)
    mixed = [id for chunk in chunks for id in (chunk, chunk.replace("chunk", "absent"))]

    async def get_chunks(stores: Stores, _: Table) -> object:
        return await stores.chunks.get_by_ids(chunks)

    async def get_reports(stores: Stores, _: Table) -> object:
        return await stores.reports.get_by_ids(reports)

    async def filter_keys(stores: Stores, _: Table) -> object:
        return await stores.chunks.filter_keys(mixed)

    def upsert(namespace: str) -> Callable[[Stores, Table], Awaitable[object]]:
        async def run(stores: Stores, table: Table) -> None:
            await stores.by_namespace[namespace].upsert(table)
            await stores.by_namespace[namespace].index_done_callback()

        return run

    def traffic(command: Literal["GET", "SET", "EXISTS"], space: str, ids: list[str]) -> Traffic:
        return Traffic(command, space, ids, together=len(ids), one_call=True)

    return [
        Workload(
            "get-chunks", "get_by_ids, 1,000 chunks", traffic("GET", CHUNKS, chunks), get_chunks
        ),
        Workload(
            "get-reports", "get_by_ids, 300 reports", traffic("GET", REPORTS, reports), get_reports
        ),
        Workload(
            "filter-keys",
            "filter_keys, 2,000 ids, half missing",
            traffic("EXISTS", CHUNKS, mixed),
            filter_keys,
        ),
        Workload(
            "upsert-chunks",
            "upsert and save, 1,000 chunks",
            traffic("SET", CHUNKS, chunks),
            upsert(CHUNKS),
            payloads.text_chunks,
            files=True,
        ),
        Workload(
            "upsert-reports",
            "upsert and save, 300 reports",
            traffic("SET", REPORTS, reports),
            upsert(REPORTS),
            payloads.community_reports,
            files=True,
        ),
    ]


def _writes(payloads: Payloads) -> list[Workload]:
    table = payloads.llm_response_cache
    ids = list(table)

    async def one_by_one(stores: Stores, table: Table) -> None:
        for id in ids[:200]:
            await stores.answers.upsert({id: table[id]})

    async def at_once(stores: Stores, table: Table) -> None:
        await asyncio.gather(*(stores.answers.upsert({id: table[id]}) for id in ids[:512]))

    async def cached_call(stores: Stores, table: Table) -> None:
        for id in ids[:40]:
            missing: Any = await stores.answers.get_by_id(f"absent-{id}")
            assert missing is None
            await stores.answers.upsert({id: table[id]})
            await stores.answers.index_done_callback()

    def traffic(count: int, together: int) -> Traffic:
        return Traffic("SET", ANSWERS, ids[:count], together)

    return [
        Workload(
            "upsert-sequential", "upsert, one after another", traffic(200, 1), one_by_one, table
        ),
        Workload("upsert-512", "upsert, 512 at once", traffic(512, 512), at_once, table),
        Workload(
            "llm-call",
            "around an LLM call: get, upsert, save",
            traffic(40, 1),
            cached_call,
            table,
            files=True,
            mixed=True,
        ),
    ]


def _local_reads(payloads: Payloads) -> list[Workload]:
    ids = list(payloads.text_chunks)[:200]

    async def one_by_one(stores: Stores, _: Table) -> object:
        storage = stores.near or stores.chunks
        return [await storage.get_by_id(id) for id in ids]

    return [
        Workload(
            "get-near",
            "get_by_id, one after another, near cache where there is one",
            Traffic("GET", CHUNKS, ids, together=1),
            one_by_one,
        )
    ]
