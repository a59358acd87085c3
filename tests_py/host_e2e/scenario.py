"""One process of the real host: indexes a book or asks about it, and prints what came of it.

A script, started in a fresh interpreter by the tests: ``scenario.py BACKEND STEP --working-dir
DIRECTORY --book FILE``. Everything else is in the environment, as in production.
"""

import argparse
import asyncio
import json
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_graphrag import GraphRAG, QueryParam

QUESTIONS = {
    "local": "Who is Jacob Marley to Ebenezer Scrooge?",
    "global": "Who visits Scrooge?",
    "naive": "What did the clerk do with the candle?",
}
STORES = ("full_docs", "text_chunks", "community_reports", "llm_response_cache")
ROUNDS = 5
"""How often the questions are asked, each in an event loop of its own."""


@dataclass
class ServiceRAG(GraphRAG):  # type: ignore[misc]  # the host ships no types
    """An application's own class, defined before the backend is registered."""

    service: str = "carol"


def build(backend: str, working_dir: Path) -> GraphRAG:
    """The host's object, its stores chosen in one of the ways the documentation names.

    The library is imported where it is used: the run on JSON is the host alone.
    """
    plain = {"working_dir": str(working_dir), "enable_naive_rag": True, "chunk_token_size": 600}
    if backend == "json":
        return GraphRAG(**plain)
    if backend == "class":
        from nano_graphrag_redis import RedisKVStorage

        return GraphRAG(**plain, key_string_value_json_storage_cls=RedisKVStorage)

    import nano_graphrag_redis

    nano_graphrag_redis.register()
    return {"environment": GraphRAG, "subclass": ServiceRAG}[backend](**plain)


def index(rag: GraphRAG, book: str) -> list[dict[str, str]]:
    """Insert and query as a script does: synchronously."""
    rag.insert(book)
    return [{mode: rag.query(text, QueryParam(mode=mode)) for mode, text in QUESTIONS.items()}]


def ask(rag: GraphRAG, book: str) -> list[dict[str, str]]:
    """Insert what is known already, then query in one event loop after the other."""
    asyncio.run(rag.ainsert(book))
    return [
        {
            mode: asyncio.run(rag.aquery(text, QueryParam(mode=mode)))
            for mode, text in QUESTIONS.items()
        }
        for _ in range(ROUNDS)
    ]


async def contents(rag: GraphRAG) -> dict[str, dict[str, Any]]:
    """Every value of every store, by namespace and id."""
    found = {}
    for namespace in STORES:
        store = getattr(rag, namespace)
        ids = sorted(await store.all_keys())
        found[namespace] = dict(zip(ids, await store.get_by_ids(ids), strict=True))
    return found


async def close(rag: GraphRAG) -> None:
    """The host closes nothing; whoever owns its object does."""
    for namespace in STORES:
        await getattr(rag, namespace).close()


def main() -> None:
    """The command line of the scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", choices=("json", "class", "environment", "subclass"))
    parser.add_argument("step", choices=("index", "ask"))
    parser.add_argument("--working-dir", type=Path, required=True)
    parser.add_argument("--book", type=Path, required=True)
    arguments = parser.parse_args()

    with redirect_stdout(sys.stderr):  # the host shows its progress on standard output
        rag = build(arguments.backend, arguments.working_dir)
        step = {"index": index, "ask": ask}[arguments.step]
        answers = step(rag, arguments.book.read_text(encoding="utf-8"))
        stores = asyncio.run(contents(rag))
        if arguments.backend != "json":
            asyncio.run(close(rag))
    said = {"class": type(rag.full_docs).__name__, "answers": answers, "stores": stores}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
