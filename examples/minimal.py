"""The smallest program: index a text, ask about it, with every key-value store in Redis.

    REDIS_URL=redis://localhost:6379 python examples/minimal.py BOOK QUESTION

Run it again: the documents are indexed and the answer is cached, so the LLM is not called.
"""

import sys
from pathlib import Path

from nano_graphrag import GraphRAG, QueryParam

from nano_graphrag_redis import RedisKVStorage

if __name__ == "__main__":
    book, question = sys.argv[1:]
    rag = GraphRAG(working_dir="./cache", key_string_value_json_storage_cls=RedisKVStorage)
    rag.insert(Path(book).read_text(encoding="utf-8"))
    print(rag.query(question, QueryParam(mode="local")))
