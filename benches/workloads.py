"""The calls nano-graphrag makes, as the benchmark repeats them."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benches.payloads import Payloads, Table
from benches.workload import ANSWERS, CHUNKS, REPORTS, Command, Stores, Traffic, Workload

IN_TURN = 1_000  # calls of one round, one after another
CACHED_CALLS = 100  # of one round; the JSON backend takes 20 ms for each
THREADS = 8
FIELDS = {"tokens", "full_doc_id"}
"""All of a chunk but its text."""


def workloads(payloads: Payloads, in_turn: int = IN_TURN) -> list[Workload]:
    """Every workload, in the order of the report.

    Args:
        payloads: What is stored.
        in_turn: How many calls, one after another, are one round.
    """
    return [
        *_reads(payloads, in_turn),
        *_batches(payloads),
        *_writes(payloads, in_turn),
        _local_reads(payloads, in_turn),
    ]


def _reads(payloads: Payloads, in_turn: int) -> list[Workload]:
    ids = list(payloads.text_chunks)
    few, many = ids[:in_turn], ids[:512]
    threads = ThreadPoolExecutor(THREADS)
    shares = [ids[number::THREADS] for number in range(THREADS)]

    async def one_by_one(stores: Stores, _: Table) -> object:
        return [await stores.chunks.get_by_id(id) for id in few]

    def blocking_reads(stores: Stores, ids: list[str]) -> list[object]:
        assert stores.blocking is not None
        return [stores.blocking.get_by_id(id) for id in ids]

    async def blocking(stores: Stores, _: Table) -> object:
        return blocking_reads(stores, few)

    async def in_threads(stores: Stores, _: Table) -> object:
        return list(threads.map(blocking_reads, [stores] * THREADS, shares))

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
        Workload(
            "get-threads",
            f"get_by_id, blocking, {THREADS} threads",
            Traffic("GET", CHUNKS, ids, THREADS, in_threads=True),
            in_threads,
            blocking=True,
        ),
    ]


def _batches(payloads: Payloads) -> list[Workload]:
    chunks, reports = list(payloads.text_chunks), list(payloads.community_reports)
    mixed = [id for chunk in chunks for id in (chunk, chunk.replace("chunk", "absent"))]

    async def get_chunks(stores: Stores, _: Table) -> object:
        return await stores.chunks.get_by_ids(chunks)

    async def get_fields(stores: Stores, _: Table) -> object:
        return await stores.chunks.get_by_ids(chunks, FIELDS)

    async def get_reports(stores: Stores, _: Table) -> object:
        return await stores.reports.get_by_ids(reports)

    async def filter_keys(stores: Stores, _: Table) -> object:
        return await stores.chunks.filter_keys(mixed)

    def upsert(namespace: str) -> Callable[[Stores, Table], Awaitable[object]]:
        async def run(stores: Stores, table: Table) -> None:
            await stores.by_namespace[namespace].upsert(table)
            await stores.by_namespace[namespace].index_done_callback()

        return run

    def traffic(command: Command, space: str, ids: list[str]) -> Traffic:
        return Traffic(command, space, ids, together=len(ids), one_call=True)

    return [
        Workload(
            "get-chunks", "get_by_ids, 1,000 chunks", traffic("GET", CHUNKS, chunks), get_chunks
        ),
        Workload(
            "get-fields",
            "get_by_ids, two fields of 1,000 chunks",
            traffic("GET", CHUNKS, chunks),
            get_fields,
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


def _writes(payloads: Payloads, in_turn: int) -> list[Workload]:
    table = payloads.llm_response_cache
    ids = list(table)

    async def one_by_one(stores: Stores, table: Table) -> None:
        for id in ids[:in_turn]:
            await stores.answers.upsert({id: table[id]})

    async def at_once(stores: Stores, table: Table) -> None:
        await asyncio.gather(*(stores.answers.upsert({id: table[id]}) for id in ids[:512]))

    async def cached_call(stores: Stores, table: Table) -> None:
        for id in ids[:CACHED_CALLS]:
            missing: Any = await stores.answers.get_by_id(f"absent-{id}")
            assert missing is None
            await stores.answers.upsert({id: table[id]})
            await stores.answers.index_done_callback()

    def traffic(count: int, together: int) -> Traffic:
        return Traffic("SET", ANSWERS, ids[:count], together)

    return [
        Workload(
            "upsert-sequential",
            "upsert, one after another",
            traffic(in_turn, 1),
            one_by_one,
            table,
        ),
        Workload("upsert-512", "upsert, 512 at once", traffic(512, 512), at_once, table),
        Workload(
            "llm-call",
            "around an LLM call: get, upsert, save",
            traffic(CACHED_CALLS, 1),
            cached_call,
            table,
            files=True,
            mixed=True,
        ),
    ]


def _local_reads(payloads: Payloads, in_turn: int) -> Workload:
    ids = list(payloads.text_chunks)[:in_turn]

    async def one_by_one(stores: Stores, _: Table) -> object:
        storage = stores.near or stores.chunks
        return [await storage.get_by_id(id) for id in ids]

    return Workload(
        "get-near",
        "get_by_id, one after another, near cache where there is one",
        Traffic("GET", CHUNKS, ids, together=1),
        one_by_one,
        near=True,
    )
