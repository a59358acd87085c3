"""The real host's LLM calls go on whatever its cache says: an exception in one is a slot lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import ROOT, Llm, running_llm
from support.preloaded import Preloaded
from support.servers import RedisServer

from .rows import Row

FAULTS = 20
"""More than the host's sixteen slots."""

# The host counts running calls without `finally`.
SCRIPT = """
import asyncio, json, sys
from nano_graphrag import GraphRAG
from nano_graphrag_redis import RedisKVStorage
import redis

url, working_dir, faults = sys.argv[1], sys.argv[2], int(sys.argv[3])
rag = GraphRAG(
    working_dir=working_dir,
    key_string_value_json_storage_cls=RedisKVStorage,
    addon_params={
        "redis_url": url, "redis_durability": "replicas:1", "redis_durability_timeout": 0.02
    },
)

async def ask(number):
    prompt = f"MANY entities were missed in {number}"
    return await asyncio.wait_for(rag.best_model_func(prompt), timeout=30)

async def main():
    await asyncio.gather(*(ask(number) for number in range(faults)))
    unmet = (await rag.llm_response_cache.get_stats())["forgiven"]["durability"]
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter("nano_graphrag:llm_response_cache:*"))
        for key in keys:
            client.set(key, b"{corrupt")
    await asyncio.gather(*(ask(number) for number in range(faults)))
    corrupt = (await rag.llm_response_cache.get_stats())["forgiven"]["corrupt"]
    next_answer = await ask(faults)
    for store in (rag.full_docs, rag.text_chunks, rag.community_reports, rag.llm_response_cache):
        await store.close()
    print(json.dumps([len(keys), unmet, corrupt, bool(next_answer)]))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm() as running:
        yield running


@pytest.mark.row(36)
def test_corrupt_answers_and_unmet_barriers_cost_the_host_no_call(
    row: Row, host: Preloaded, own_server: RedisServer, llm: Llm, tmp_path: Path
) -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    done = host.run(
        ["-c", SCRIPT, own_server.url, str(tmp_path), str(FAULTS)],
        env={**outside, **llm.environment},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    cached, unmet, corrupt, answered = json.loads(done.stdout.splitlines()[-1])
    assert cached == FAULTS
    row.saw("unmet barriers", unmet)
    row.saw("corrupt answers", corrupt)
    row.saw("the next LLM call completes", "yes" if answered else "no")
    assert unmet >= FAULTS
    assert corrupt == FAULTS
    assert answered
