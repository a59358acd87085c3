"""Odd interpreters, event loops and environments: each works, or says what is supported."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

import nano_graphrag_redis
from nano_graphrag_redis import RedisConfig, RedisKVStorage, SyncRedisKVStorage, _core
from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

code = '''
import sys
sys.path[:] = {path!r}
try:
    import nano_graphrag_redis
except ImportError as error:
    assert "main interpreter only" in str(error), error
else:
    raise SystemExit("it was imported")
'''.format(path=sys.path)

used, first, destroyed = sys.argv[2:5]
if used == "used":
    storage.sync.upsert({"a": 1})
    asyncio.run(storage.get_by_id("a"))
for round in range(3):
    made = interpreters.create()
    assert interpreters.run_string(made, code) is None
    if destroyed == "destroyed":
        interpreters.destroy(made)
storage.sync.upsert({"a": 2})
assert storage.sync.get_by_id("a") == asyncio.run(storage.get_by_id("a")) == 2
"""


@pytest.mark.row(44)
@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("destroyed", ["destroyed", "left"])
def test_a_subinterpreter_is_refused_and_the_main_one_does_not_notice(
    row: Row, own_server: RedisServer, used: str, destroyed: str
) -> None:
    ended = run_script(SUBINTERPRETER, own_server.url, used, "", destroyed)
    ended.cleanly()
    row.none(f"hangs beside a subinterpreter, {used}, {destroyed}", 0, of=3)


@pytest.mark.row(44)
@pytest.mark.parametrize("kind", [RedisKVStorage, SyncRedisKVStorage])
def test_a_storage_is_not_pickled_or_copied_and_says_what_to_do(
    row: Row, server: RedisServer, kind: type[Any]
) -> None:
    storage = kind("full_docs", {"redis_url": server.url})
    ways: dict[str, Callable[[], object]] = {
        "pickle": lambda: pickle.dumps(storage),
        "copy": lambda: copy.copy(storage),
        "deepcopy": lambda: copy.deepcopy({"storage": storage}),
        "spawn": lambda: ForkingPickler.dumps((storage,)),  # the arguments of a new process
    }
    for way, attempt in ways.items():
        with pytest.raises(TypeError, match=rf"a {kind.__name__} .*'full_docs'.*its settings"):
            attempt()
        row.saw(f"{way} of a {kind.__name__}", "a named error")
    (storage if kind is SyncRedisKVStorage else storage.sync).close()


@pytest.mark.row(44)
def test_settings_and_counters_are_pickled_and_copied(row: Row, server: RedisServer) -> None:
    config = RedisConfig.from_global_config({"redis_url": server.url, "redis_workspace": "acme"})
    counters = _core.metrics()
    for twin in (pickle.loads(pickle.dumps(config)), copy.copy(config), copy.deepcopy(config)):
        assert twin == config
    assert pickle.loads(pickle.dumps(counters)) == copy.deepcopy(counters) == counters
    row.saw("settings pickled", "equal")


PATHS = [
    str(Path(__file__).parents[1] / "hosts" / "standin_factory_host"),
    str(Path(nano_graphrag_redis.__file__).parents[1]),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
]

SCRIPT = """
import sys
sys.path[:0] = {paths!r}
import asyncio, os
def main():
    from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
    settings = {{"redis_url": {url!r}, "redis_metrics_dir": {metrics!r}}}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({{"a": {{"text": "\\u00e9\\ud7ff"}}}})
        assert storage.get_by_id("a") == {{"text": "\\u00e9\\ud7ff"}}
        storage.index_done_callback()
    async def awaited():
        async with RedisKVStorage("full_docs", settings) as storage:
            return await storage.get_by_ids(["a", "b"])
    found = asyncio.run(awaited())
    if found != [{{"text": "\\u00e9\\ud7ff"}}, None]:
        sys.exit(3)
    from nano_graphrag_redis.cli import main as command
    for words in (["--version"], ["keys", "full_docs"], ["stats"], ["doctor"]):
        code = command(words)
        if code and (words[0], code) != ("doctor", 1):
            sys.exit(f"{{words}}: {{code}}")
main()
"""


@dataclass(frozen=True)
class Odd:
    """An environment.

    Attributes:
        options: Of the interpreter.
        env: Variables that are set; None unsets one.
        before: Run in the child before Python starts.
    """

    options: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    before: Callable[[], None] | None = None


def _closed(*descriptors: int) -> Callable[[], None]:
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


def _in_a_deleted_directory() -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()


def _in_a_directory_to_read_only() -> None:
    Path("fixed").mkdir(mode=0o555)
    os.chdir("fixed")


def _on_one_processor() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


ENVIRONMENTS = {
    "no home": Odd(env={"HOME": None}),
    "a home that is not there": Odd(env={"HOME": "/nonexistent"}),
    "no directory for temporary files": Odd(env={"TMPDIR": "/nonexistent"}),
    "temporary files under spaces": Odd(env={"TMPDIR": "with  spaces"}),
    "LC_ALL=C": Odd(env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "LC_ALL=POSIX": Odd(env={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "an unknown locale": Odd(env={"LC_ALL": "xx_YY.nothing"}),
    "no variables at all": Odd(env=dict.fromkeys(os.environ)),
    "a deleted working directory": Odd(before=_in_a_deleted_directory),
    "a working directory to read only": Odd(before=_in_a_directory_to_read_only),
    "no stdin": Odd(before=_closed(0)),
    "no stdout": Odd(before=_closed(1)),
    "no stderr": Odd(before=_closed(2)),
    "no standard streams": Odd(before=_closed(0, 1, 2)),
    "-S -I -E": Odd(options=("-S", "-I", "-E")),
    "-OO": Odd(options=("-OO",)),
    "-W error": Odd(options=("-W", "error")),
    "-bb": Odd(options=("-bb",)),
    "-X dev": Odd(options=("-X", "dev")),
    "-X importtime": Odd(options=("-X", "importtime")),
    "-X utf8=0": Odd(options=("-X", "utf8=0")),
    "PYTHONMALLOC=debug": Odd(env={"PYTHONMALLOC": "debug"}),
    "PYTHONMALLOC=malloc": Odd(env={"PYTHONMALLOC": "malloc"}),
    "PYTHONDEVMODE=1": Odd(env={"PYTHONDEVMODE": "1"}),
    "one processor": Odd(before=_on_one_processor),
}


@pytest.mark.row(44)
@pytest.mark.parametrize(
    "name",
    # Each takes an interpreter; every third one where not everything is tried.
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] if place % 3 else [])
        for place, name in enumerate(ENVIRONMENTS)
    ],
)
def test_an_odd_environment_works(
    row: Row, own_server: RedisServer, tmp_path: Path, name: str
) -> None:
    odd = ENVIRONMENTS[name]
    (tmp_path / "with  spaces").mkdir()
    env = {**os.environ, "REDIS_URL": own_server.url, **odd.env}
    script = SCRIPT.format(paths=PATHS, url=own_server.url, metrics=str(tmp_path / "metrics"))
    ended = subprocess.run(
        [sys.executable, *odd.options, "-c", script],
        env={key: value for key, value in env.items() if value is not None},
        cwd=tmp_path,
        preexec_fn=odd.before,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, (name, ended)
    row.none(f"tracebacks, {name}", ended.stderr.count("Traceback"), of=1)
