"""The real host's queries beside an insert: reports and chunks that are not stored are left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.host import BOOK, Llm, running_llm
from support.preloaded import Preloaded
from support.servers import RedisServer

pytestmark = pytest.mark.any_server

LETTERS = 3_000
"""Of the book: several chunks and reports."""

# Indexes a text, takes away what an insert has not stored yet, and asks each time.
SCRIPT = """
import asyncio, json, logging, os, sys
from contextlib import redirect_stdout
from pathlib import Path

class Said(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())

said = []
logger = logging.getLogger("nano_graphrag_redis")
logger.addHandler(Said())
logger.setLevel(logging.INFO)

exec(os.environ.get("BEFORE", ""))
if os.environ.get("REGISTERS"):
    import nano_graphrag_redis
    nano_graphrag_redis.register()
from nano_graphrag import GraphRAG, QueryParam

async def ask(rag):
    answers = {}
    for mode, options in {
        "local": {"mode": "local"},
        "one report": {"mode": "local", "local_community_single_one": True},
        "global": {"mode": "global"},
        "naive": {"mode": "naive"},
    }.items():
        param = QueryParam(only_need_context=mode != "global", level=9, **options)
        try:
            answers[mode] = await rag.aquery("Who is Jacob Marley to Scrooge?", param)
        except Exception as error:
            answers[mode] = f"{type(error).__name__}: {error}"
    return answers

async def main(text):
    rag = GraphRAG(working_dir="graph", enable_naive_rag=True, chunk_token_size=300)
    await rag.ainsert(text)
    told = {"class": type(rag.full_docs).__name__, "whole": await ask(rag)}
    for name, store, key in (
        ("reports", rag.community_reports, "report_string"),
        ("chunks", rag.text_chunks, "content"),
    ):
        ids = sorted(await store.all_keys())
        values = dict(zip(ids, await store.get_by_ids(ids)))
        await store.drop()
        kept = dict(list(values.items())[1:])
        await store.upsert(kept)
        told[f"without one of the {name}"] = await ask(rag)
        told[f"one of the {name}"] = values[ids[0]][key]
        told[f"{name} left"] = [value[key] for value in kept.values()]
        await store.drop()
        told[f"without {name}"] = await ask(rag)
        await store.upsert(values)
    told["whole again"] = await ask(rag)
    for store in (rag.full_docs, rag.text_chunks, rag.community_reports, rag.llm_response_cache):
        await getattr(store, "close", lambda: asyncio.sleep(0))()
    return told

with redirect_stdout(sys.stderr):
    told = asyncio.run(main(Path(sys.argv[1]).read_text(encoding="utf-8")))
print(json.dumps({**told, "said": said}))
"""

LACKS = (
    "without one of the reports",
    "without reports",
    "without one of the chunks",
    "without chunks",
)


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    with running_llm() as running:
        yield running


@pytest.fixture
def book(tmp_path: Path) -> Path:
    text = BOOK.read_text(encoding="utf-8")
    start = text.index("Marley was dead, to begin with.")
    path = tmp_path / "book.txt"
    path.write_text(text[start : start + LETTERS], encoding="utf-8")
    return path


def ask(host: Preloaded, llm: Llm, book: Path, *before: str, **environ: str) -> dict[str, Any]:
    """What the script says, run by Python or, from its start on, by what stands before it."""
    script = book.with_name("script.py")
    script.write_text(SCRIPT)
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    env = {**outside, **llm.environment, "PYTHONHASHSEED": "0"} | environ
    if before:
        done = subprocess.run(
            [sys.executable, *before, str(script), str(book)],
            env=env, cwd=book.parent, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    else:
        done = host.run([str(script), str(book)], env=env, cwd=book.parent)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def failed(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The queries that raised, each with the error."""
    return [
        (lack, mode, answer)
        for lack in LACKS
        for mode, answer in told[lack].items()
        if answer.startswith(("KeyError", "TypeError"))
    ]


WAYS: dict[str, tuple[list[str], dict[str, str]]] = {
    "register": ([], {"REGISTERS": "1", "STORAGE_KV_BACKEND": "redis"}),
    "run": (["-m", "nano_graphrag_redis", "run"], {"STORAGE_KV_BACKEND": "redis"}),
    "register, on JSON": ([], {"REGISTERS": "1"}),
}


@pytest.mark.parametrize(
    "way", ["run", *(pytest.param(way, marks=pytest.mark.exhaustive) for way in list(WAYS)[::2])]
)
def test_a_query_goes_on_without_what_is_not_stored(
    way: str, host: Preloaded, llm: Llm, book: Path, server: RedisServer
) -> None:
    before, environ = WAYS[way]
    told = ask(host, llm, book, *before, **environ, REDIS_URL=server.url)
    assert told["class"] == ("JsonKVStorage" if "JSON" in way else "RedisKVStorage")
    assert failed(told) == []
    assert told["whole again"] == told["whole"]
    for what, modes in {"reports": ("local", "one report"), "chunks": ("local", "naive")}.items():
        for mode in modes:
            without_one = told[f"without one of the {what}"][mode]
            assert told[f"one of the {what}"] not in without_one
            if mode == "one report":
                assert sum(report in without_one for report in told["reports left"]) == 1
            else:
                assert any(value in without_one for value in told[f"{what} left"])
    assert any("a query goes on without" in line for line in told["said"])


def test_a_host_that_is_not_known_is_left_as_it_is_with_one_warning(
    host: Preloaded, llm: Llm, book: Path, server: RedisServer
) -> None:
    other = """
import nano_graphrag._op as op
known = op._find_most_related_community_from_entities
async def another(node_datas, query_param, community_reports):
    return await known(node_datas, query_param, community_reports)
op._find_most_related_community_from_entities = another
"""
    told = ask(
        host,
        llm,
        book,
        BEFORE=f"{other}\nimport nano_graphrag_redis as n\nn.register(); n.unregister()",
        REGISTERS="1",
        STORAGE_KV_BACKEND="redis",
        REDIS_URL=server.url,
    )
    assert {(lack, mode) for lack, mode, _ in failed(told)} == {
        (f"without {lack}reports", mode)
        for lack in ("", "one of the ")
        for mode in ("local", "one report")
    }
    warnings = [line for line in told["said"] if "is not what 0.0.8.2 has" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("_find_most_related_community_from_entities, of ")
