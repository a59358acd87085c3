"""What a user's own type checker says of code that uses this package, right and wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from typing_extensions import get_type_hints, is_typeddict

from nano_graphrag_redis import (
    RedisConfig,
    RedisSettings,
    StorageStats,
    SyncRedisKVStorage,
    _core,
)
from nano_graphrag_redis.config.namespaces import KNOWN_NAMESPACES
from nano_graphrag_redis.typed_dicts import (
    ConnectionSetMetrics,
    DeferredDropStats,
    DualWriteStats,
    NearCacheStats,
    ProcessMetrics,
    ServiceMetrics,
    SingleFlightStats,
)
from nano_graphrag_redis.workers.merged_counters import merged
from support.conditions import eventually
from support.pages import blocks
from support.servers import RedisServer

SNIPPETS = Path(__file__).parent / "typing_snippets"
PAGE = "docs/typing.md"

FOLLOWS = re.compile(r"reportUnknown|reportUnusedExpression")
"""Rules that say again, of what comes of it, what another has said on the line."""

Errors = set[tuple[str, int, str]]
"""File, line and code."""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project away from the source, so that the package is the installed one."""
    home = tmp_path_factory.mktemp("project")
    shutil.copytree(SNIPPETS, home / "code")
    (home / "code/right/page.py").write_text("\n".join(block.text for block in blocks(PAGE)))
    (home / "mypy.ini").write_text(
        "[mypy]\nstrict = true\npython_version = 3.10\n"
        "[mypy-nano_graphrag.*]\nignore_missing_imports = true\n"
    )
    (home / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "pythonVersion": "3.10", "include": ["code"]})
    )
    return home


def ran(home: Path, *arguments: str) -> str:
    checked = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=home, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1, checked.stdout + checked.stderr
    return checked.stdout


def by_mypy(home: Path) -> Errors:
    files = sorted(str(path.relative_to(home)) for path in home.rglob("*.py"))
    options = ("--config-file=mypy.ini", "--no-error-summary", "--hide-error-context")
    packages = ("--no-namespace-packages", f"--python-executable={sys.executable}")
    said = ran(home, "mypy", *options, *packages, "--cache-dir=cache", *files)
    found = re.findall(r"([^/\n]+/[^/\n]+\.py):(\d+): error: .*\[([a-z-]+)\]", said)
    return {(file, int(line), code) for file, line, code in found}


def by_pyright(home: Path) -> Errors:
    said = json.loads(ran(home, "pyright", "--outputjson", "--pythonpath", sys.executable))
    return {
        ("/".join(Path(each["file"]).parts[-2:]), each["range"]["start"]["line"] + 1, each["rule"])
        for each in said["generalDiagnostics"]
        if not FOLLOWS.match(each["rule"])
    }


CHECKERS: Mapping[str, Callable[[Path], Errors]] = {"mypy": by_mypy, "pyright": by_pyright}


def expected(column: int) -> Iterator[tuple[str, int, str]]:
    """What the remarks say: ``# error: CODES OF MYPY | RULES OF PYRIGHT``."""
    for path in SNIPPETS.rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "# error: " in line:
                codes = line.partition("# error: ")[2].split(" | ")[column]
                for code in codes.split(","):
                    yield f"{path.parent.name}/{path.name}", number, code


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_code_is_refused_where_it_is_wrong_and_right_code_is_not(
    checker: str, code: Path
) -> None:
    assert CHECKERS[checker](code) == {*expected([*CHECKERS].index(checker))}


def test_the_type_of_settings_names_those_that_there_are() -> None:
    of_namespaces = {f"redis_ttl_{namespace}" for namespace in KNOWN_NAMESPACES}
    assert {*RedisSettings.__annotations__} == {*RedisConfig.model_fields} | of_namespaces


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
    settings = {"redis_url": server.url, "redis_deferred_drop": True}
    with SyncRedisKVStorage("community_reports", settings) as storage:
        stats = storage.get_stats(light=True)
    assert stats["deferred_drop"] is not None
    assert stats["deferred_drop"].keys() == DeferredDropStats.__annotations__.keys()


def misfits(kind: Any, told: Any, at: str = "") -> list[str]:
    """Where a value is not of a type: keys it lacks, keys the type lacks, and what is another."""
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        wrong = [f"{at} lacks {key}" for key in kind.__required_keys__ - told.keys()]
        wrong += [f"{at} has {key}" for key in told.keys() - hints.keys()]
        parts = [(hints[key], told[key], key) for key in hints.keys() & told.keys()]
    elif get_origin(kind) is dict:
        wrong, parts = [], [(get_args(kind)[1], told[key], key) for key in told]
    elif get_origin(kind) is list:
        wrong, parts = [], [(get_args(kind)[0], each, "[]") for each in told]
    elif get_origin(kind) is tuple:
        wrong, parts = [], [(*pair, "()") for pair in zip(get_args(kind), told, strict=True)]
    elif get_args(kind):
        fits = any(misfits(each, told) == [] for each in get_args(kind))
        wrong, parts = [] if fits else [f"{at} is {told!r}"], []
    else:
        fits = isinstance(told, (int, float) if kind is float else kind)
        wrong, parts = [] if fits else [f"{at} is {told!r}"], []
    return wrong + [
        each for part, value, key in parts for each in misfits(part, value, f"{at}/{key}")
    ]


def test_the_types_of_metrics_are_those_of_what_there_is(
    server: RedisServer, tmp_path: Path
) -> None:
    settings = {
        "redis_url": server.url,
        "redis_near_cache_mb": 1,
        "redis_metrics_dir": str(tmp_path),
    }

    def sets() -> list[ConnectionSetMetrics]:
        servers = _core.metrics(sample_every=0.05)["servers"]
        return servers[f"{server.url}/0"]["sets"]

    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"doc-1": {"content": "Marley was dead"}})
        eventually(lambda: any("sample" in each and "up" in each for each in sets()))
        assert misfits(ProcessMetrics, _core.metrics()) == []
        eventually(lambda: merged(tmp_path)["workers"] != [])
        assert misfits(ServiceMetrics, merged(tmp_path)) == []
    wrong = {"bounds": ["1"], "namespaces": {"a": {"counts": {}, "forgiven": {}}}, "more": 1}
    assert sorted(misfits(ProcessMetrics, wrong)) == [
        " has more",
        " lacks servers",
        "/bounds/[] is '1'",
        "/namespaces/a lacks operations",
    ]
