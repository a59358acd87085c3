"""The counters of several processes, added up: uvicorn's workers, and those that are gone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import _core
from nano_graphrag_redis.workers import counter_files, merged_counters
from support.conditions import DEADLINE, eventually
from support.scripts import run_script
from support.servers import RedisServer, server_binaries

WORKER = """
import os
from nano_graphrag_redis import RedisKVStorage

storage = None

async def app(scope, receive, send):
    global storage
    if scope["type"] != "http":
        return
    storage = storage or RedisKVStorage("llm_response_cache", {"redis_url": os.environ["URL"]})
    await storage.get_by_id("question")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What is counted is the same on every server."""
    return server_binaries()["valkey"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "metrics"


@contextmanager
def uvicorn(home: Path, **environ: str) -> Iterator[str]:
    """Two workers, and the address at which they answer."""
    (home / "worker.py").write_text(WORKER)
    standin = Path(__file__).parents[1] / "hosts" / "standin_factory_host"
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "worker:app", "--workers", "2", "--port", "0"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(home), str(standin)]), **environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"running on (http://\S+)", line):
                    break
            assert found, "uvicorn says no address"
            yield found[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()


def ask(address: str) -> int:
    """One request; the process id of the worker that answered."""
    answers: list[int] = []

    def answered() -> bool:
        with (
            contextlib.suppress(OSError),  # a worker that starts, or was killed
            urllib.request.urlopen(address, timeout=5) as answer,
        ):
            answers.append(int(answer.read()))
        return bool(answers)

    eventually(answered)
    return answers[0]


def misses(snapshot: Any) -> int:
    told = snapshot["namespaces"].get("llm_response_cache")
    return int(told["counts"]["misses"]) if told else 0


def test_the_counters_of_uvicorns_workers_are_added_up_and_served(
    server: RedisServer, directory: Path, tmp_path: Path
) -> None:
    serving = [sys.executable, "-m", "nano_graphrag_redis", "metrics", "--dir", str(directory)]
    with uvicorn(tmp_path, URL=server.url, REDIS_METRICS_DIR=str(directory)) as address:
        workers: dict[int, int] = {}
        while len(workers) < 2:
            pid = ask(address)
            workers[pid] = workers.get(pid, 0) + 1
        asked = sum(workers.values())
        eventually(
            lambda: directory.is_dir() and misses(merged_counters.merged(directory)) == asked
        )
        served = subprocess.Popen([*serving, "--port", "0"], stderr=subprocess.PIPE, text=True)
        with served:
            assert served.stderr is not None
            found = re.search(r"(http://\S+)/metrics", served.stderr.readline())
            assert found
            with urllib.request.urlopen(f"{found[1]}/metrics", timeout=20) as answer:
                text = answer.read().decode()
            served.send_signal(signal.SIGINT)
            assert served.wait(timeout=DEADLINE) == 130
    call = '{namespace="llm_response_cache",operation="get_by_id",status="ok"}'
    assert f"nano_graphrag_redis_operations_total{call} {asked}.0" in text
    open_connections = re.findall(r'redis_connection_pool_size\{[^}]*"\} (\d+)', text)
    assert sum(map(int, open_connections)) >= 2

    # The workers are gone, and what they have counted is not.
    told = subprocess.run([*serving, "--json"], capture_output=True, check=True, text=True)
    assert misses(json.loads(told.stdout)) == asked


def test_a_worker_that_is_killed_leaves_what_it_has_written(
    server: RedisServer, directory: Path, tmp_path: Path
) -> None:
    with uvicorn(tmp_path, URL=server.url, REDIS_METRICS_DIR=str(directory)) as address:
        pid = ask(address)
        eventually(lambda: directory.is_dir() and misses(merged_counters.merged(directory)) >= 1)
        counted = misses(merged_counters.merged(directory))
        os.kill(pid, signal.SIGKILL)
        ask(address)
        eventually(lambda: misses(merged_counters.merged(directory)) > counted)


def test_a_forked_child_writes_for_itself(server: RedisServer, directory: Path) -> None:
    run_script(
        """
        os.environ["REDIS_METRICS_DIR"] = sys.argv[2]
        with SyncRedisKVStorage("llm_response_cache", {"redis_url": URL}) as answers:
            answers.get_by_id("question")
            if os.fork() == 0:
                answers.get_by_id("question")
                answers.get_by_id("question")
                sys.exit(0)
            os.wait()
        """,
        server.url,
        directory,
    ).cleanly()
    assert misses(merged_counters.merged(directory)) == 3
    assert [path.name for path in directory.glob("*.json")] == ["gone.json"]


def test_a_process_that_was_taken_for_gone_counts_nothing_twice(
    server: RedisServer, directory: Path
) -> None:
    run_script(
        """
        import json, time
        from pathlib import Path
        from nano_graphrag_redis.workers import counter_writer, merged_counters

        os.environ["REDIS_METRICS_DIR"] = sys.argv[2]
        with SyncRedisKVStorage("llm_response_cache", {"redis_url": URL}) as answers:
            for _ in range(3):
                answers.get_by_id("question")
                counter_writer._writer.write()
                # As a reader finds it before this process, after an hour in which both slept.
                (path,) = Path(sys.argv[2]).glob("*-*.json")
                told = json.loads(path.read_text())
                told["written"] -= 2 * merged_counters.FOLD_AFTER
                path.write_text(json.dumps(told))
                merged_counters.merged(Path(sys.argv[2]))
                assert not path.exists()
        """,
        server.url,
        directory,
    ).cleanly()
    merged = merged_counters.merged(directory)
    assert misses(merged) == 3
    operation = merged["namespaces"]["llm_response_cache"]["operations"]["get_by_id"]
    assert sum(operation["histogram"]) == sum(operation["statuses"].values()) == 3
    assert sum(day["misses"] for day in merged["days"].values()) == 3


def test_a_directory_that_cannot_be_written_is_named_once(server: RedisServer) -> None:
    ended = run_script(
        """
        from nano_graphrag_redis.workers import counter_writer

        os.environ["REDIS_METRICS_DIR"] = "/dev/null/metrics"
        with SyncRedisKVStorage("llm_response_cache", {"redis_url": URL}) as answers:
            answers.get_by_id("question")
            counter_writer._writer.write()
        """,
        server.url,
    )
    assert ended.code == 0
    assert ended.err.count("REDIS_METRICS_DIR=/dev/null/metrics: the counters of this") == 1


# Each left a file, every five seconds, until no inode was left.
def test_a_full_disk_keeps_no_half_of_a_file(server: RedisServer, directory: Path) -> None:
    ended = run_script(
        """
        import resource
        from pathlib import Path
        from nano_graphrag_redis.embedded.server_version import Server, record
        from nano_graphrag_redis.workers import counter_writer

        os.environ["REDIS_METRICS_DIR"] = sys.argv[2]
        with SyncRedisKVStorage("llm_response_cache", {"redis_url": URL}) as answers:
            answers.get_by_id("question")
            counter_writer._writer.write()
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            answers.get_by_id("question")
            counter_writer._writer.write()
            try:
                record(Path(sys.argv[2]), Server("valkey", (9, 1, 0)))
            except OSError as error:
                print(error)
        """,
        server.url,
        directory,
    )
    assert "File too large" in ended.out
    assert ended.code == 0
    assert ended.err.count("the counters of this") == 1
    assert [path.suffix for path in directory.iterdir()] == [".json"]


Write = Callable[..., None]

BOUNDS = _core.metrics()["bounds"]
REST = [0] * len(BOUNDS)
OPEN = {
    "connections": 2,
    "busy_connections": 1,
    "max_connections": 50,
    "requests_in_flight": 1,
    "breaker_open": False,
}


@pytest.fixture
def write(directory: Path) -> Write:
    """Writes a process's file, so many seconds ago."""
    directory.mkdir()

    def written(name: str, calls: int, *, ago: float = 0, ended: bool = False) -> None:
        operations = {
            "get_by_id": {"statuses": {"ok": calls}, "histogram": [calls, *REST], "seconds": 0.5}
        }
        told = {"operations": operations, "counts": {"hits": calls}, "forgiven": {}}
        snapshot: dict[str, Any] = {
            "bounds": BOUNDS,
            "namespaces": {"docs": told},
            "servers": {"redis://a": {"counts": {"retries": 1}, "sets": [OPEN]}},
        }
        text = {"format": 1, "written": time.time() - ago, "ended": ended, "snapshot": snapshot}
        (directory / f"{name}.json").write_text(json.dumps(text))

    return written


def test_counters_of_all_and_what_is_open_of_those_that_live(write: Write, directory: Path) -> None:
    write("alive", 1)
    write("silent", 10, ago=60)
    write("ahead", 10_000, ago=-60)
    write("ended", 100, ended=True)
    write("forgotten", 1000, ago=2 * merged_counters.FOLD_AFTER)
    (directory / "damaged.json").write_text("{")
    (directory / "newer.json").write_text('{"format": 99}')
    for _ in range(3):
        total = merged_counters.merged(directory)
        calls = total["namespaces"]["docs"]["operations"]["get_by_id"]
        assert calls == {"statuses": {"ok": 11_111}, "histogram": [11_111, *REST], "seconds": 2.5}
        assert total["servers"]["redis://a"] == {
            "counts": {"retries": 5},
            "sets": [OPEN],
        }
    left = {path.stem for path in directory.glob("*.json")}
    assert left == {"alive", "silent", "ahead", "gone", "damaged", "newer"}


def test_nothing_is_missing_from_the_sum_while_another_reader_folds(
    write: Write, directory: Path
) -> None:
    def calls() -> int:
        hits: int = merged_counters.merged(directory)["namespaces"]["docs"]["counts"]["hits"]
        return hits

    with ThreadPoolExecutor(4) as readers:
        for ended in range(1, 101):
            for n in range(20):
                write(f"ended-{ended}-{n}", 1, ended=True)
            told = [readers.submit(calls) for _ in range(4)]
            assert [each.result() for each in told] == [20 * ended] * 4


def harm(directory: Path) -> dict[str, str]:
    """Leaves what is no file of counters; gives the names, and a word of why each is not read."""
    good = {"format": 1, "written": 1.0, "ended": False}
    counts = {"operations": {}, "counts": {"hits": -1}, "forgiven": {}}
    outside: dict[str, Any] = {"bounds": [], "namespaces": {}, "servers": {}}
    texts = {
        "cut.json": ('{"format": 1, "snap', "no JSON"),
        "empty.json": ("", "no JSON"),
        "binary.json": ("\x00\x01", "no JSON"),
        "deep.json": ("[" * 200_000, "deeply"),
        "deep-too.json": ('{"format":1,"snapshot":' + "[" * 200_000 + "]" * 200_000 + "}", "deep"),
        "list.json": ("[]", "something else"),
        "number.json": ("9" * 5_000, "no JSON"),
        "half.json": (json.dumps(good), "something else"),
        "negative.json": (
            json.dumps(good | {"snapshot": outside | {"namespaces": {"n": counts}}}),
            "something else",
        ),
        "other-bounds.json": (
            json.dumps(good | {"snapshot": outside | {"bounds": [1.0]}}),
            "other bounds",
        ),
        "nan.json": (
            json.dumps(good | {"written": float("nan"), "snapshot": outside}),
            "something else",
        ),
        "no-time.json": (json.dumps({"format": 1, "snapshot": outside}), "no file of counters"),
    }
    for name, (text, _) in texts.items():
        (directory / name).write_text(text)
    os.mkfifo(directory / "pipe.json")
    (directory / "directory.json").mkdir()
    (directory / "link.json").symlink_to("/dev/zero")
    with (directory / "huge.json").open("w") as huge:
        huge.truncate(1 << 40)
    return {name: why for name, (_, why) in texts.items()} | {
        "pipe.json": "regular",
        "directory.json": "regular",
        "link.json": "symbolic",
        "huge.json": "larger",
    }


def test_what_is_no_file_of_counters_is_passed_over_and_named(
    write: Write, directory: Path
) -> None:
    write("alive", 7)
    harmful = harm(directory)
    passed_over: list[str] = []
    total = merged_counters.merged(directory, passed_over)
    assert total["namespaces"]["docs"]["counts"] == {"hits": 7}
    told = {Path(line.split(": ")[0]).name: line for line in passed_over}
    assert told.keys() == harmful.keys()
    for name, why in harmful.items():
        assert why in told[name], (name, told[name])


def test_a_sum_that_was_tampered_with_removes_no_file_and_is_not_written_over(
    write: Write, directory: Path, tmp_path: Path
) -> None:
    write("ended", 5, ended=True)
    precious = tmp_path / "precious.json"
    precious.write_text("{}")
    snapshot: dict[str, Any] = {"bounds": [], "namespaces": {}, "servers": {}}
    tampered = {"format": 1, "folded": ["../precious.json"], "snapshot": snapshot}
    (directory / "gone.json").write_text(json.dumps(tampered))
    before = (directory / "gone.json").read_bytes()
    assert merged_counters.merged(directory)["namespaces"]["docs"]["counts"] == {"hits": 5}
    assert precious.exists()
    assert (directory / "gone.json").read_bytes() == before


# Two that may be read had a sum that may not: with it went what was folded, and was to be.
def test_a_sum_can_be_read_again_whatever_was_added_up(write: Write, directory: Path) -> None:
    days = {"2026-11-28": {"hits": 2**64}}
    for name in ("one", "other"):
        write(name, 2**64, ended=True)
        path = directory / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"days": days}))
    for _ in range(2):
        passed_over: list[str] = []
        total = merged_counters.merged(directory, passed_over)
        assert passed_over == []
        assert total["namespaces"]["docs"]["counts"] == {"hits": 2**64}
        assert total["days"] == days
        assert total["servers"]["redis://a"]["counts"] == {"retries": 2}
    before = (directory / "gone.json").read_bytes()
    with pytest.raises(OSError, match="too large"):
        counter_files.replace(directory / "gone.json", "x" * counter_files.LARGEST)
    assert (directory / "gone.json").read_bytes() == before


def test_nothing_is_written_through_a_link(write: Write, directory: Path, tmp_path: Path) -> None:
    write("ended", 5, ended=True)
    victim = tmp_path / "victim"
    (directory / "fold.lock").symlink_to(victim)
    (directory / f"gone.{os.getpid()}.draft").symlink_to(victim)
    merged_counters.merged(directory)
    assert not victim.exists()
    (directory / "fold.lock").unlink()
    (directory / "gone.json").symlink_to(victim)
    merged_counters.merged(directory)
    assert not victim.exists()


def test_a_file_of_another_user_counts_only_where_not_everybody_may_write(
    write: Write, directory: Path
) -> None:
    if os.geteuid() != 0:
        return  # only root gives files away
    write("mine", 1)
    write("theirs", 10)
    os.chown(directory / "theirs.json", 12345, 12345)
    assert merged_counters.merged(directory)["namespaces"]["docs"]["counts"] == {"hits": 11}
    directory.chmod(0o1777)
    passed_over: list[str] = []
    counts = merged_counters.merged(directory, passed_over)["namespaces"]["docs"]["counts"]
    assert counts == {"hits": 1}
    assert "theirs.json: another user's" in passed_over[0]


def test_a_file_that_was_folded_and_not_removed_counts_once(write: Write, directory: Path) -> None:
    write("ended", 5, ended=True)
    before = (directory / "ended.json").read_bytes()
    assert merged_counters.merged(directory)["namespaces"]["docs"]["counts"] == {"hits": 5}
    # As if it had been stopped between the two.
    gone = json.loads((directory / "gone.json").read_bytes())
    (directory / "gone.json").write_text(json.dumps(gone | {"folded": ["ended.json"]}))
    (directory / "ended.json").write_bytes(before)
    for _ in range(2):
        assert merged_counters.merged(directory)["namespaces"]["docs"]["counts"] == {"hits": 5}
    assert not (directory / "ended.json").exists()
