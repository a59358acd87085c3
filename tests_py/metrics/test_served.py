"""``metrics`` as a scraper meets it, whatever becomes of the directory and the names in it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.metrics import register, unregister
from support.servers import RedisServer


def scraped(url: str) -> str:
    """What one scrape is told."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.status == 200
        text: str = answer.read().decode()
    return text


# As systemd removes a RuntimeDirectory= with the service: each scrape was a traceback on stderr.
def test_a_directory_that_goes_away_is_told_of_once_and_holds_no_counters(tmp_path: Path) -> None:
    directory = tmp_path / "counters"
    directory.mkdir()
    serving = [sys.executable, "-m", "nano_graphrag_redis", "metrics", "--dir", str(directory)]
    with subprocess.Popen([*serving, "--port", "0"], stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stderr is not None
            url = served.stderr.readline().partition(",")[0]
            before = scraped(url)
            assert "# TYPE nano_graphrag_redis_workers gauge" in before
            shutil.rmtree(directory)
            assert [scraped(url) for _ in range(3)] == [before] * 3
            directory.mkdir()
            assert scraped(url) == before
        finally:
            served.send_signal(signal.SIGINT)
        assert served.wait(timeout=30) == 130
        told = served.stderr.read().splitlines()
    assert len(told) == 2, told
    assert "is not there: no process of the service writes there" in told[0]
    assert told[1] == "interrupted"


# A scrape with the same series twice is refused as a whole.
def test_names_that_look_alike_are_series_of_their_own(server: RedisServer) -> None:
    registry = CollectorRegistry()
    register(registry)
    try:
        for namespace in ("a\nb", "a\\nb", "a\\\\nb"):
            with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
                storage.get_by_id("nothing")
        lines = generate_latest(registry).decode().splitlines()
    finally:
        unregister(registry)
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))
    assert sum(one.startswith("nano_graphrag_redis_cache_misses_total{") for one in series) >= 3
