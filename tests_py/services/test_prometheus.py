"""A real Prometheus scrapes a real process, and has a series of every documented metric."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nano_graphrag_redis.metrics.families import FAMILIES, Family
from support.prometheus import Prometheus, scraping

SERVICE = """
import asyncio, sys, threading
import redis
from prometheus_client import start_http_server
from nano_graphrag_redis import SyncRedisKVStorage, limit_llm
from nano_graphrag_redis.metrics import register

url = sys.argv[1]
register().sample_every = 0.5
redis.Redis.from_url(url).config_set("maxmemory", "1gb")
documents = SyncRedisKVStorage("full_docs", {"redis_url": url, "redis_near_cache_mb": 1})
away = {"redis_url": "redis://127.0.0.1:1", "redis_max_retries": 0, "redis_breaker_failures": 1}
answers = SyncRedisKVStorage("llm_response_cache", away)
documents.upsert({"doc-1": {"content": "Marley was dead: to begin with."}})
for id in ("doc-1", "doc-1", "doc-2"):
    documents.get_by_id(id)
answers.get_by_id("question")
async def model(prompt, **_):
    return "dead"
limited = limit_llm(model, {"redis_url": url}, model="m", requests_per_minute=6000)
asyncio.run(limited("Who is dead?"))
http, _ = start_http_server(0, addr="127.0.0.1")
print(http.server_port, flush=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    """A Prometheus that scrapes a process which uses storages."""
    with scraping(SERVICE) as prometheus:
        yield prometheus


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.name))
def test_every_documented_metric_is_scraped(prometheus: Prometheus, family: Family) -> None:
    name = f"{family.name}_bucket" if family.kind == "histogram" else family.name
    for each in prometheus.series(name):
        assert set(family.labels) <= set(each["metric"])


def test_rates_and_quantiles_can_be_asked_for(prometheus: Prometheus) -> None:
    quantile = (
        "histogram_quantile(0.99, sum by (le) "
        '(redis_operation_duration_seconds_bucket{namespace="full_docs"}))'
    )
    hits = (
        'redis_cache_hits_total{namespace="full_docs"} / '
        "(redis_cache_hits_total + nano_graphrag_redis_cache_misses_total)"
    )
    (p99,) = prometheus.series(quantile)
    assert 0 < float(p99["value"][1]) <= 10
    (ratio,) = prometheus.series(hits)
    assert float(ratio["value"][1]) == pytest.approx(2 / 3)
