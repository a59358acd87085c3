"""Indexes texts before the workers start: ``python -m examples.service.index TEXT...``."""

import asyncio
import sys
from pathlib import Path

from nano_graphrag import GraphRAG

from .app import WORKING_DIR


def main() -> None:
    """Insert the texts; texts that are already in Redis are skipped."""
    rag = GraphRAG(working_dir=WORKING_DIR)
    texts = [Path(name).read_text(encoding="utf-8") for name in sys.argv[1:]]
    asyncio.run(rag.ainsert(texts))


if __name__ == "__main__":
    main()
