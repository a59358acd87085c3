"""The service with ten workers, one Redis, and a language model that counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.host import BOOK, running_llm
from support.preloaded import Preloaded
from support.servers import RedisServer
from support.service import each_worker_answers_for_one_call

LETTERS = 8_000
"""Of the book: enough for a graph, and indexed in seconds."""


@pytest.mark.timeout(900)  # ten imports of the host, which takes seconds of processor time
def test_the_same_question_asked_of_ten_workers_costs_one_call(
    host: Preloaded, tmp_path: Path
) -> None:
    text = BOOK.read_text(encoding="utf-8")
    book = tmp_path / "book.txt"
    book.write_text(text[text.index("Marley was dead, to begin with.") :][:LETTERS])
    with running_llm() as llm, RedisServer() as server:
        each_worker_answers_for_one_call(10, host, llm, book, server, home=tmp_path)
