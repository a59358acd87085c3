"""The service with a few workers; `make test-services` has ten."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.host import Llm
from support.servers import RedisServer
from support.service import each_worker_answers_for_one_call

WORKERS = 3


@pytest.mark.timeout(300)  # each worker imports the host, which takes seconds
def test_a_question_costs_one_call_whichever_worker_is_asked(
    llm: Llm, book: Path, tmp_path: Path
) -> None:
    with RedisServer() as server:
        each_worker_answers_for_one_call(WORKERS, llm, book, server, tmp_path)
