"""Connections that are killed, a server that is away, and a host that indexes all the same."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nano_graphrag_redis import RedisKVStorage
from nano_graphrag_redis.exceptions import CircuitOpenError, StorageError
from support.conditions import eventually
from support.host import BOOK, ROOT, Llm, running_llm
from support.preloaded import Preloaded
from support.servers import RedisServer

from .conftest import OpenStorage
from .rows import Row

READERS = 8
LETTERS = 12_000
"""Of the book: a handful of chunks."""

INDEX = """
import asyncio, json, sys
from pathlib import Path
from nano_graphrag import GraphRAG
from nano_graphrag._llm import gpt_4o_complete
from nano_graphrag_redis import RedisKVStorage

url, working_dir, book, letters, seconds = sys.argv[1:]

async def slow(*arguments, **keywords):
    await asyncio.sleep(float(seconds))  # as a model takes its time
    return await gpt_4o_complete(*arguments, **keywords)

rag = GraphRAG(
    working_dir=working_dir,
    chunk_token_size=600,
    best_model_func=slow,
    best_model_max_async=2,
    key_string_value_json_storage_cls=RedisKVStorage,
    addon_params={"redis_url": url},
)
text = Path(book).read_text(encoding="utf-8")
text = text[text.index("Marley was dead"):][:int(letters)]

async def main():
    await rag.ainsert(text)
    counts = {}
    for store in (rag.full_docs, rag.text_chunks, rag.community_reports):
        counts[store.namespace] = len(await store.all_keys())
    counts["missed"] = sum((await rag.llm_response_cache.get_stats())["forgiven"].values())
    print(json.dumps(counts))

asyncio.run(main())
"""


@pytest.mark.row(3)
def test_readers_see_no_error_while_single_connections_are_killed(
    row: Row, server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage().sync
    storage.upsert({str(number): number for number in range(READERS)})
    over = threading.Event()

    def read(number: int) -> tuple[int, list[StorageError]]:
        reads, errors = 0, []
        while not over.is_set():
            try:
                assert storage.get_by_id(str(number)) == number
            except StorageError as error:
                errors.append(error)
            reads += 1
        return reads, errors

    kills = row.pick(quick=20, full=400)
    with ThreadPoolExecutor(READERS) as pool:
        reading = [pool.submit(read, number) for number in range(READERS)]
        admin = server.client(single_connection_client=True)
        for kill in range(kills):
            time.sleep(0.15)
            ours = [each for each in admin.client_list() if "nano-graphrag" in each["name"]]
            admin.client_kill_filter(_id=ours[kill % len(ours)]["id"])
        over.set()
        outcomes = [each.result() for each in reading]
    row.saw("connections killed, one each 150 ms", kills)
    errors = [error for _, some in outcomes for error in some]
    row.none("errors of readers", len(errors), of=sum(reads for reads, _ in outcomes))


@pytest.mark.row(13)
def test_a_call_fails_at_once_while_the_breaker_is_open(
    row: Row, own_server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_url=own_server.url, redis_max_retries=0)
    storage.sync.check_health()
    own_server.kill()
    eventually(lambda: refuses(storage))
    times = []
    for _ in range(row.pick(quick=500, full=10_000)):
        began = time.perf_counter()
        with pytest.raises(CircuitOpenError):
            storage.sync.get_by_id("a")
        times.append(time.perf_counter() - began)
    row.saw("median of a call that is refused", f"{statistics.median(times) * 1e6:.0f} µs")
    row.within("p99 of it", statistics.quantiles(times, n=100)[-1], promised=0.001)


def refuses(storage: RedisKVStorage) -> bool:
    try:
        storage.sync.get_by_id("a")
    except CircuitOpenError:
        return True
    except StorageError:
        return False
    raise AssertionError("a server that was killed has answered")


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm() as running:
        yield running


@pytest.mark.row(36)
def test_the_host_indexes_a_book_through_an_outage(
    row: Row, host: Preloaded, own_server: RedisServer, llm: Llm, tmp_path: Path
) -> None:
    outage = row.pick(quick=2.0, full=10.0)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    # The outage ends before the host has asked all it has to ask.
    arguments = [own_server.url, tmp_path, BOOK, LETTERS, outage / 4]
    with (
        (tmp_path / "log").open("w+") as log,
        host.start(
            ["-c", INDEX, *map(str, arguments)],
            env={**outside, **llm.environment}, stderr=log, cwd=ROOT,
        ) as indexing,
    ):  # fmt: skip
        client = own_server.client()
        eventually(lambda: client.keys("nano_graphrag:llm_response_cache:*") != [], within=60)
        own_server.kill()
        time.sleep(outage)
        own_server.start()
        said = indexing.stdout.read()
        assert indexing.wait() == 0, (tmp_path / "log").read_text()
    counts = json.loads(said.splitlines()[-1])
    row.saw(f"answers that the cache missed in {outage:.0f} s", counts["missed"])
    row.saw("chunks indexed", counts["text_chunks"])
    assert counts["missed"] > 0
    assert counts["full_docs"] == 1
    assert counts["text_chunks"] > 1
    assert counts["community_reports"] > 0
