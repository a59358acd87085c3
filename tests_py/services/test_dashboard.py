"""Every panel of the dashboard has data: a real Prometheus scrapes a process at work."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from support.conditions import eventually
from support.dashboard import Query, queries
from support.deployment import DEPLOY
from support.prometheus import PATIENCE, Prometheus, scraping

AT_WORK = """
import asyncio, sys, time
import redis
from prometheus_client import start_http_server
from nano_graphrag_redis import SyncRedisKVStorage, limit_llm
from nano_graphrag_redis.metrics import register

register().sample_every = 0.5
redis.Redis.from_url(sys.argv[1]).config_set("maxmemory", "1gb")
there = {"redis_url": sys.argv[1], "redis_compression": "zstd", "redis_near_cache_mb": 1,
         "redis_changes": True}
away = {"redis_url": "redis://127.0.0.1:1", "redis_max_retries": 1}
documents = SyncRedisKVStorage("full_docs", there)
answers = SyncRedisKVStorage("llm_response_cache", there)
sliding = {"redis_ttl": {"llm_response_cache": 2}, "redis_ttl_sliding": True}
kept = SyncRedisKVStorage("llm_response_cache", {"redis_url": sys.argv[1], **sliding})
kept.upsert({"answer-3": {"return": "dead", "model": "m"}})
unread = SyncRedisKVStorage("llm_response_cache", away)
async def model(prompt, **_):
    return "dead"
limited = limit_llm(model, {"redis_url": sys.argv[1]}, model="m", requests_per_minute=6000)
loop = asyncio.new_event_loop()
http, _ = start_http_server(0, addr="127.0.0.1")
print(http.server_port, flush=True)
ends = time.monotonic() + 300  # whatever becomes of the test
while time.monotonic() < ends:
    documents.upsert({"doc-1": {"content": "Marley was dead: to begin with. " * 100}})
    answers.upsert({"answer-1": {"return": "dead", "model": "m"}})
    for _ in range(5):
        documents.get_by_ids(["doc-1", "doc-2"])
        answers.get_by_id("answer-1")
    answers.get_by_id("answer-2")
    kept.get_by_id("answer-3")
    unread.get_by_id("answer-1")
    loop.run_until_complete(limited("Who is dead?"))
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    """A Prometheus with the rules of deploy/ that scrapes a process at work."""
    with scraping(AT_WORK, rules=[DEPLOY / "prometheus" / "alerts.yml"]) as prometheus:
        yield prometheus


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: str(query.panel))
def test_a_panel_has_data(prometheus: Prometheus, query: Query) -> None:
    expression = query.for_prometheus("10s")

    def has_numbers() -> bool:
        series = prometheus.series(expression)
        return any(math.isfinite(float(each["value"][1])) for each in series)

    eventually(has_numbers, within=PATIENCE)


def test_the_rules_are_evaluated(prometheus: Prometheus) -> None:
    for namespace in ("full_docs", "llm_response_cache"):
        ratio = f'nano_graphrag:failures:ratio_rate5m{{namespace="{namespace}"}}'
        assert prometheus.series(ratio)


def test_an_alert_is_pending_for_the_server_that_is_away(prometheus: Prometheus) -> None:
    (alert,) = prometheus.series('ALERTS{alertname="RedisUnreachable"}')
    assert "127.0.0.1:1" in alert["metric"]["server"]
