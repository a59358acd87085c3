"""Fills the service: ``python -m examples.service.index TEXT...``, before the workers start."""

import asyncio
import sys
from pathlib import Path

from nano_graphrag import GraphRAG

from .app import WORKING_DIR


def main() -> None:
    """Insert the texts; those that Redis knows already are left alone."""
    rag = GraphRAG(working_dir=WORKING_DIR)
    texts = [Path(name).read_text(encoding="utf-8") for name in sys.argv[1:]]
    asyncio.run(rag.ainsert(texts))


if __name__ == "__main__":
    main()
