"""One process of a GraphRAG service: what an application writes to keep its stores in Redis.

Which Redis is a matter of the environment: ``STORAGE_KV_BACKEND=redis`` and ``REDIS_URL``. Prints
one JSON object a line for each thing that happened, so that the demo can show it.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from nano_graphrag import GraphRAG, QueryParam

import nano_graphrag_redis

QUESTIONS = {
    "local": "Who is Bob Cratchit, and what does Tiny Tim mean to him?",
    "global": "Who and what changes Ebenezer Scrooge?",
    "naive": "What does Marley's Ghost say about the chain it wears?",
}

Say = Callable[..., None]


async def work(working_dir: Path, book: str | None, say: Say) -> None:
    """Index a book, if one is given, and ask the questions.

    Args:
        working_dir: Where the host keeps its graph and its vectors.
        book: Its text.
        say: Called with the name of each event and its details.
    """
    rag = GraphRAG(working_dir=str(working_dir), enable_naive_rag=True)
    try:
        say("imported")
        if book is not None:
            await rag.ainsert(book)
            say("indexed")
        for mode, question in QUESTIONS.items():
            answer = await rag.aquery(question, QueryParam(mode=mode))
            say("answered", mode=mode, question=question, answer=answer)
    finally:
        stores = (rag.full_docs, rag.text_chunks, rag.community_reports, rag.llm_response_cache)
        await asyncio.gather(*(store.close() for store in stores))


def main() -> None:
    """The command line of the worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--working-dir", type=Path, required=True)
    parser.add_argument("--book", type=Path, help="index this text before asking")
    arguments = parser.parse_args()

    events = sys.stdout

    def say(event: str, **details: str) -> None:
        print(json.dumps({"event": event, **details}), file=events, flush=True)

    nano_graphrag_redis.register()
    book = arguments.book.read_text(encoding="utf-8") if arguments.book else None
    with redirect_stdout(sys.stderr):  # the host shows its own progress on standard output
        asyncio.run(work(arguments.working_dir, book, say))


if __name__ == "__main__":
    main()
