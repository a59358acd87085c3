"""What ``stats`` says first: how many LLM calls the service was spared, in all and by day."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis.workers.llm_cache_days_kept import DAYS_KEPT, Days, add_days
from nano_graphrag_redis.workers.merged_counters import merged
from support.scripts import run_script
from support.servers import RedisServer, server_binaries

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SERVICE = """
os.environ["REDIS_METRICS_DIR"] = sys.argv[2]
with SyncRedisKVStorage("llm_response_cache", {"redis_url": URL}) as answers:
    answers.get_by_id("question")
    answers.upsert({"question": {"return": "answer", "model": "m"}})
    for _ in range(3):
        answers.get_by_id("question")
"""


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What the command says is the same of every server."""
    return server_binaries()["valkey"]


@pytest.fixture
def directory(server: RedisServer, tmp_path: Path) -> Path:
    """The counters of a service that asked four times, and called the model once."""
    directory = tmp_path / "counters"
    run_script(SERVICE, server.url, directory).cleanly()
    return directory


@pytest.fixture
def stats(command: Command, server: RedisServer, directory: Path) -> Callable[..., str]:
    def run(*options: str) -> str:
        where = {"REDIS_METRICS_DIR": str(directory), "COLUMNS": "100"}
        ended = command("stats", "--url", server.url, *options, **where)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    return run


def test_the_first_line_below_the_server_is_what_was_saved(stats: Callable[..., str]) -> None:
    assert stats().splitlines()[1] == "3 LLM calls saved of 4 (75.0%)"
    worth = stats("--price-per-call", "0.5").splitlines()[1]
    assert worth == "3 LLM calls saved of 4 (75.0%); 1.50 at 0.5 a call"


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        ("on", "single flight: 3 of them by waiting; 0 waited for a call that failed, 0 in vain"),
        ("observe", "redis_single_flight=on would have saved up to 3 more"),
    ],
)
def test_what_single_flight_saves_is_said(
    stats: Callable[..., str], server: RedisServer, directory: Path, mode: str, line: str
) -> None:
    source = """
    os.environ["REDIS_METRICS_DIR"] = sys.argv[2]
    cache = RedisKVStorage(
        "llm_response_cache", {"redis_url": URL, "redis_single_flight": sys.argv[3]}
    )

    async def complete():
        if await cache.get_by_id("asked by all") is None:
            await asyncio.sleep(0.2)
            await cache.upsert({"asked by all": {"return": "answer", "model": "m"}})

    async def main():
        await cache.all_keys()  # opens the connection, so that all four ask over one
        await asyncio.gather(*(complete() for _ in range(4)))
        await cache.close()

    asyncio.run(main())
    """
    run_script(source, server.url, directory, mode).cleanly()
    assert line in stats().splitlines()


def test_it_is_counted_by_day(stats: Callable[..., str], directory: Path) -> None:
    saved = json.loads(stats("--json", "--price-per-call", "2"))["llm"]
    today = datetime.now(timezone.utc).date()
    one = [{"day": str(today), "asked": 4, "saved": 3, "money": 6.0}]
    assert saved == {"asked": 4, "saved": 3, "price": 2.0, "money": 6.0, "days": one}

    yesterday = today - timedelta(days=1)
    rewrite(directory, lambda told: told["days"].update({str(yesterday): {"misses": 5}}))
    rows = [line.split() for line in stats("--price-per-call", "2").splitlines()]
    assert [str(yesterday), "5", "0", "0.0%", "0.00"] in rows
    assert [str(today), "4", "3", "75.0%", "6.00"] in rows


def test_days_outlive_the_processes_that_counted_them(server: RedisServer, directory: Path) -> None:
    run_script(SERVICE, server.url, directory).cleanly()
    for _ in range(2):  # the first one folds
        (counts,) = merged(directory)["days"].values()
        assert counts == {"hits": 7, "misses": 1}
    assert [path.name for path in directory.glob("*.json")] == ["gone.json"]


def test_files_of_the_version_before_have_no_days(directory: Path) -> None:
    rewrite(directory, lambda told: told.pop("days"))
    total = merged(directory)
    assert total["days"] == {}
    assert total["namespaces"]["llm_response_cache"]["counts"]["hits"] == 3


@pytest.mark.parametrize(
    "days",
    [[], {"today": {}}, {"2026-11-28": {"other": 1}}, {"2026-11-28": {"hits": -1}}, {"x\x1b": 1}],
    ids=repr,
)
def test_days_that_are_none_are_passed_over_with_their_file(directory: Path, days: object) -> None:
    rewrite(directory, lambda told: told.update(days=days))
    passed_over: list[str] = []
    assert merged(directory, passed_over)["days"] == {}
    assert len(passed_over) == 1
    assert "\x1b" not in passed_over[0]


def test_the_newest_days_are_kept() -> None:
    first = datetime(2026, 1, 1, tzinfo=timezone.utc).date()
    days: Days = {}
    for number in range(DAYS_KEPT + 3):
        add_days(days, {str(first + timedelta(days=number)): {"hits": number}})
    assert len(days) == DAYS_KEPT
    assert min(days) == str(first + timedelta(days=3))


def rewrite(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what the one process has written."""
    (path,) = directory.glob("*.json")
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def test_a_service_that_has_not_started_is_no_error(
    command: Command, server: RedisServer, tmp_path: Path
) -> None:
    """The directory of counters is set and not there yet."""
    where = {"REDIS_METRICS_DIR": str(tmp_path / "counters")}
    ended = command("stats", "--url", server.url, **where)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "no process of the service has written to" in ended.stdout
    assert "full_docs" in ended.stdout
    assert "p99" not in ended.stdout
    assert not (tmp_path / "counters").exists()
