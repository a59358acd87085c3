"""Ten workers ask the LLM cache the same question at once: how many calls of the LLM that makes."""

from __future__ import annotations

import pytest
import redis

from support.servers import RedisServer

from .workers import Report, asked_at_once

PROCESSES, TASKS = 10, 16


def answers(reports: list[Report]) -> set[str]:
    return {answer for report in reports for answer, _ in report.answers}


@pytest.mark.any_server
def test_ten_workers_of_sixteen_tasks_make_one_call_and_share_its_answer(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    reports = asked_at_once(PROCESSES, TASKS, server.url, redis_single_flight="on")
    assert sum(report.calls for report in reports) == 1
    assert len(answers(reports)) == 1
    slowest = max(seconds for report in reports for _, seconds in report.answers)
    assert slowest < 2 * 2.7, "promised: 2.7 s on a machine of their own"
    assert redis_client.keys("*@lease*") == []


@pytest.mark.any_server
def test_off_each_task_calls(server: RedisServer) -> None:
    reports = asked_at_once(3, 4, server.url, seconds=0.5)
    assert [report.calls for report in reports] == [4, 4, 4]
    assert [report.stats for report in reports] == [None] * 3
