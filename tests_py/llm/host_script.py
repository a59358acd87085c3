"""A process of the real host that indexes a text over a cache of embeddings.

``host_script.py WORKING_DIR TEXT``; prints the texts that the provider was asked for, as JSON.
"""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from nano_graphrag import GraphRAG, QueryParam
from nano_graphrag._llm import openai_embedding

from nano_graphrag_redis import cache_embeddings

asked: list[str] = []
provider = openai_embedding.func


async def counted(texts: list[str]) -> Any:
    """What OpenAI is asked for."""
    asked.extend(texts)
    return await provider(texts)


def index(text: str, working_dir: str) -> None:
    """Index and ask, as a script does: synchronously."""
    embedding = cache_embeddings(
        replace(openai_embedding, func=counted), model="text-embedding-3-small"
    )
    with redirect_stdout(sys.stderr):
        rag = GraphRAG(
            working_dir=working_dir,
            enable_naive_rag=True,
            chunk_token_size=600,
            embedding_func=embedding,
        )
        rag.insert(text)
        rag.query("What did the clerk do with the candle?", QueryParam(mode="naive"))
    json.dump(asked, sys.stdout)


if __name__ == "__main__":
    index(Path(sys.argv[2]).read_text(encoding="utf-8"), sys.argv[1])
