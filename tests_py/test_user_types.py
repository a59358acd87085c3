"""What a user's own type checker says of code that uses this package, right and wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nano_graphrag_redis import StorageStats, SyncRedisKVStorage
from nano_graphrag_redis.shapes import DualWriteStats, NearCacheStats, SingleFlightStats
from support.servers import RedisServer

SNIPPETS = Path(__file__).parent / "typing_snippets"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, int, str]]:
    """The errors of mypy --strict in the snippets: file, line and code."""
    away = tmp_path_factory.mktemp("mypy")
    (away / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-nano_graphrag.*]\nignore_missing_imports = true\n"
    )
    files = sorted(SNIPPETS.rglob("*.py"))
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", "mypy.ini"),
            *("--no-error-summary", "--no-namespace-packages", "--hide-error-context"),
            *("--cache-dir", str(away / "cache"), *map(str, files)),
        ],
        cwd=away,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"([^/\n]+/[^/\n]+\.py):(\d+): error: .*\[([a-z-]+)\]", checked.stdout)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    return {(file, int(line), code) for file, line, code in found}


def expected() -> Iterator[tuple[str, int, str]]:
    for path in SNIPPETS.rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "# error: " in line:
                for code in line.partition("# error: ")[2].split(","):
                    yield f"{path.parent.name}/{path.name}", number, code


def test_wrong_code_is_refused_where_it_is_wrong_and_right_code_is_not(
    said: set[tuple[str, int, str]],
) -> None:
    assert said == {*expected()}


def test_the_types_of_statistics_name_what_there_is(server: RedisServer, tmp_path: Path) -> None:
    settings = {
        "redis_url": server.url,
        "redis_near_cache_mb": 1,
        "redis_dual_write": True,
        "working_dir": str(tmp_path),
    }
    with SyncRedisKVStorage("full_docs", settings) as storage:
        stats = storage.get_stats()
    assert stats.keys() == StorageStats.__annotations__.keys()
    assert stats["near_cache"] is not None
    assert stats["near_cache"].keys() == NearCacheStats.__annotations__.keys()
    assert stats["dual_write"] is not None
    assert stats["dual_write"].keys() == DualWriteStats.__annotations__.keys()
    settings = {"redis_url": server.url, "redis_single_flight": "on"}
    with SyncRedisKVStorage("llm_response_cache", settings) as storage:
        stats = storage.get_stats(light=True)
    assert stats["single_flight"] is not None
    assert stats["single_flight"].keys() == SingleFlightStats.__annotations__.keys()
