"""The service with a few workers; `make test-services` has ten."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.conditions import eventually
from support.host import Llm
from support.preloaded import Preloaded
from support.servers import RedisServer
from support.service import each_worker_answers_for_one_call, running_service

WORKERS = 2


@pytest.mark.timeout(300)  # each worker imports the host, which takes seconds
def test_a_question_costs_one_call_whichever_worker_is_asked(
    host: Preloaded, llm: Llm, book: Path, tmp_path: Path
) -> None:
    with RedisServer() as server:
        each_worker_answers_for_one_call(WORKERS, host, llm, book, server, home=tmp_path)


@pytest.mark.timeout(300)
def test_a_service_starts_in_an_outage_and_is_ready_after_it(llm: Llm, tmp_path: Path) -> None:
    with RedisServer() as server:
        server.kill()
        settings = {**llm.environment, "REDIS_URL": server.url}
        with running_service(1, tmp_path, **settings) as service:
            assert not service.ready()
            assert service.alive()
            server.start()
            eventually(service.ready)
