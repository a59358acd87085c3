"""``redis_dual_write``: what the server has confirmed is in the host's files, whatever happens."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from migration.conftest import Open, WriteFile, file
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage, migration
from nano_graphrag_redis.exceptions import StorageError
from support.conditions import eventually
from support.proxy import Proxy
from support.scripts import run_script
from support.servers import RedisServer

pytestmark = pytest.mark.any_server  # what is in the files has been confirmed, by whatever server

KEY = "nano_graphrag:full_docs:"


@pytest.fixture
def quiet(write_file: WriteFile) -> None:
    """A file so young that nobody folds a log into it for a minute."""
    write_file("full_docs", {})


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def log(directory: Path) -> list[Any]:
    lines = (directory / "kv_store_full_docs.changes").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.usefixtures("quiet")
def test_a_confirmed_change_is_a_line_of_the_log(open_storage: Open, working_dir: Path) -> None:
    docs = open_storage()
    docs.upsert({"a\n\u201c": {"content": "Marley\n"}, "b": [1.5, None]})
    docs.delete_by_ids(["b", "none"])
    docs.drop()
    assert log(working_dir) == [
        ["set", "a\n\u201c", {"content": "Marley\n"}],
        ["set", "b", [1.5, None]],
        ["delete", "b"],
        ["delete", "none"],
        ["delete", "a\n\u201c"],
        ["drop"],
    ]
    assert docs.get_stats(light=True)["dual_write"] == {"logged": 6, "late": 0, "folds": 0}


def test_the_log_is_for_those_alone_who_may_read_the_file(
    open_storage: Open, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {}).chmod(0o600)
    open_storage().upsert({"a": {"content": "confidential"}})
    made = {path.name: path.stat().st_mode & 0o777 for path in working_dir.glob("*.changes")}
    assert made == {"kv_store_full_docs.changes": 0o600}


# What was confirmed is not made unknown by housekeeping that its caller waits for.
@pytest.mark.usefixtures("quiet")
def test_a_confirmed_write_is_logged_though_the_sweep_of_the_registry_is_not_answered(
    server: RedisServer, working_dir: Path
) -> None:
    registry = {"redis_registry": True, "redis_ttl": {"full_docs": 100}}
    dual = {"working_dir": str(working_dir), "redis_dual_write": True}
    with Proxy(server.port) as proxy:
        docs = RedisKVStorage("full_docs", {**registry, **dual, "redis_url": proxy.url})

        async def write() -> None:
            await docs.get_by_id("a")
            proxy.silent_after = 1
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(docs.upsert({"a": 1}), 2)

        with closing(docs.sync):
            asyncio.run(write())
            assert log(working_dir) == [["set", "a", 1]]


def test_close_brings_the_file_up_to_date_as_the_host_writes_it(
    open_storage: Open, working_dir: Path, write_file: WriteFile
) -> None:
    path = write_file("full_docs", {"a": 1, "b": 2, "c": [3]})
    docs = open_storage()
    docs.upsert({"b": {"x": "\u00e9"}, "d": 4})
    docs.delete_by_id("a")
    docs.close()
    expected = {"b": {"x": "\u00e9"}, "c": [3], "d": 4}
    assert path.read_text(encoding="utf-8") == json.dumps(expected, indent=2, ensure_ascii=False)
    assert names(working_dir) == {"kv_store_full_docs.json", "kv_store_full_docs.lock"}


def test_after_a_drop_the_file_holds_what_came_later(
    open_storage: Open, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 1, "b": 2})
    docs = open_storage()
    docs.upsert({"c": 3})
    docs.drop()
    docs.upsert({"b": 4})
    docs.close()
    assert file(working_dir) == {"b": 4}


def test_a_file_that_was_not_there_holds_the_whole_namespace(
    open_storage: Open, settings: dict[str, Any], working_dir: Path
) -> None:
    with SyncRedisKVStorage("full_docs", settings) as before:
        before.upsert({"older": 1})
    docs = open_storage()
    docs.upsert({"newer": 2})
    docs.close()
    assert file(working_dir) == {"older": 1, "newer": 2}


def test_awaited_gathered_and_compressed_writes_are_logged_too(
    open_storage: Open, settings: dict[str, Any], working_dir: Path
) -> None:
    async def write() -> None:
        both = {
            **settings,
            "working_dir": str(working_dir),
            "redis_dual_write": True,
            "redis_compression": "zstd",
        }
        async with RedisKVStorage("full_docs", both) as docs:
            await asyncio.gather(*(docs.upsert({f"{n}": "x" * 2000}) for n in range(300)))

    asyncio.run(write())
    assert file(working_dir) == {f"{n}": "x" * 2000 for n in range(300)}


def test_nothing_is_written_where_it_is_off(settings: dict[str, Any], working_dir: Path) -> None:
    off = {**settings, "working_dir": str(working_dir)}
    with SyncRedisKVStorage("full_docs", off) as docs:
        docs.upsert({"a": 1})
        assert docs.get_stats()["dual_write"] is None
    assert names(working_dir) == set()


# Two processes that write one id may log that in another order than the server did it.
@pytest.mark.usefixtures("quiet")
def test_the_server_says_what_a_changed_id_is(
    open_storage: Open, working_dir: Path, redis_client: Redis
) -> None:
    docs = open_storage()
    docs.upsert({"a": "first", "b": "first", "c": "first"})
    docs.delete_by_id("b")
    redis_client.set(f"{KEY}a", '"second"')
    redis_client.set(f"{KEY}b", '"second"')
    docs.close()
    assert file(working_dir) == {"a": "second", "b": "second", "c": "first"}


def test_what_has_expired_or_was_lost_with_the_server_stays_in_the_file(
    open_storage: Open, working_dir: Path, redis_client: Redis
) -> None:
    docs = open_storage()
    docs.upsert({"a": 1})
    redis_client.flushall()
    docs.close()
    assert file(working_dir) == {"a": 1}


def test_without_a_server_the_log_has_the_last_word(
    own_server: RedisServer, open_storage: Open, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"a": 0})
    docs = open_storage(redis_url=own_server.url, redis_operation_timeout=0.5)
    docs.upsert({"a": 1, "b": 2})
    docs.upsert({"a": 3})
    docs.delete_by_id("b")
    own_server.kill()
    docs.close()
    assert file(working_dir) == {"a": 3}


# A file of the changes alone would be taken for the whole namespace from then on.
def test_without_a_file_and_a_server_the_log_waits_for_one_of_them(
    own_server: RedisServer, open_storage: Open, working_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docs = open_storage(redis_url=own_server.url, redis_operation_timeout=0.5)
    docs.upsert({"a": 1})
    own_server.kill()
    # Nobody has folded it yet.
    (working_dir / "kv_store_full_docs.json").unlink(missing_ok=True)
    (working_dir / "kv_store_full_docs.changes").write_text('["set","a",1]\n')
    docs.close()
    assert "kv_store_full_docs.json is not there" in caplog.text
    migration.fold(working_dir, {})  # all there is, for whoever has no server any more
    assert file(working_dir) == {"a": 1}


@pytest.mark.usefixtures("quiet")
def test_a_write_that_is_not_known_to_be_done_is_asked_of_the_server(
    own_server: RedisServer, open_storage: Open, working_dir: Path
) -> None:
    docs = open_storage(redis_url=own_server.url, redis_operation_timeout=0.3)
    docs.upsert({"a": 1})
    own_server.pause()
    with pytest.raises(StorageError):
        docs.upsert({"c": 2})
    own_server.resume()
    eventually(docs.check_health)
    own_server.client().set(f"{KEY}c", "2")
    docs.close()
    assert file(working_dir) == {"a": 1, "c": 2}


@pytest.mark.usefixtures("quiet")
def test_a_line_that_was_cut_off_costs_no_other(
    open_storage: Open, working_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docs = open_storage()
    docs.upsert({"a": 1})
    with (working_dir / "kv_store_full_docs.changes").open("a") as torn:
        torn.write('["set","b",{"content":"Marl')
    docs.upsert({"c": 3})
    docs.close()
    assert file(working_dir) == {"a": 1, "c": 3}
    (told,) = [each.getMessage() for each in caplog.records if each.event == "dual_write"]  # type: ignore[attr-defined]
    assert f"full_docs: 1 line (2) of {working_dir / 'kv_store_full_docs.changes'}" in told


GARBAGE = [
    b"\0" * 4096,
    b"\xff\xfe",
    b'["set","b",{"content":"Marl',
    b'["set","b"]',
    b'{"b": 1}',
    b"<<<<<<< HEAD",
    b'["drop"',
]
"""What disks, editors and killed processes leave in a log."""


def fold_without_a_server(directory: Path, _: Any) -> migration.Exported:
    return migration.fold(directory)


@pytest.mark.parametrize("work", [migration.fold, fold_without_a_server, migration.export])
def test_garbage_in_a_log_is_counted_and_named_and_costs_no_other_line(
    settings: dict[str, Any],
    working_dir: Path,
    write_file: WriteFile,
    caplog: pytest.LogCaptureFixture,
    work: Callable[..., migration.Exported],
) -> None:
    write_file("full_docs", {"before": 1})
    wanted = {"before": 1} | {f"{n}": n for n in range(len(GARBAGE))}
    with SyncRedisKVStorage("full_docs", settings) as docs:
        docs.upsert(wanted)
    log = working_dir / "kv_store_full_docs.changes"
    log.write_bytes(
        b"".join(each + b'\n["set","%d",%d]\n' % (n, n) for n, each in enumerate(GARBAGE))
    )
    done = work(working_dir, settings)
    assert file(working_dir) == wanted
    lines = tuple(range(1, 2 * len(GARBAGE), 2))
    assert done.skipped == (migration.SkippedLines(log, len(GARBAGE), lines),)
    (told,) = [each.getMessage() for each in caplog.records if each.event == "dual_write"]  # type: ignore[attr-defined]
    assert f"full_docs: 7 lines (1, 3, 5, 7, 9, 11 and 13) of {log}" in told
    assert work(working_dir, settings).skipped == ()


# A change that lacks no more than its end of line is whole.
def test_a_last_line_without_an_end_is_folded(working_dir: Path, write_file: WriteFile) -> None:
    write_file("full_docs", {"a": 1})
    (working_dir / "kv_store_full_docs.changes").write_text('["set","b",2]\n["delete","a"]')
    assert migration.fold(working_dir).skipped == ()
    assert file(working_dir) == {"b": 2}


# A confirmed write must not fail because a disk is full; but it must be seen and made good.
@pytest.mark.usefixtures("quiet")
def test_a_log_that_cannot_be_written_is_told_once_and_made_good_later(
    open_storage: Open, working_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docs = open_storage()
    obstacle = working_dir / "kv_store_full_docs.changes"
    obstacle.mkdir()
    for n in range(3):
        docs.upsert({f"{n}": n})
    (told,) = [each.getMessage() for each in caplog.records if each.event == "dual_write"]  # type: ignore[attr-defined]
    assert "full_docs: the files fall behind" in told
    stats = docs.get_stats(light=True)["dual_write"]
    assert stats is not None
    assert stats["late"] == 3
    obstacle.rmdir()
    docs.upsert({"3": 3})
    assert log(working_dir) == [["set?", "0"], ["set?", "1"], ["set?", "2"], ["set", "3", 3]]
    docs.close()
    assert file(working_dir) == {"3": 3, "0": 0, "1": 1, "2": 2}


def test_a_damaged_file_is_told_and_its_log_kept(
    open_storage: Open, working_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (working_dir / "kv_store_full_docs.json").write_text('{"a": 1')
    docs = open_storage()
    docs.upsert({"b": 2})
    docs.close()
    assert "kv_store_full_docs.json, byte 7" in caplog.text
    (working_dir / "kv_store_full_docs.json").write_text('{"a": 1}')
    migration.fold(working_dir)
    assert file(working_dir) == {"a": 1, "b": 2}


# Whoever has the lock may be putting the log away: a line that is written then is in no file.
@pytest.mark.usefixtures("quiet")
def test_a_line_waits_for_the_process_that_has_the_lock(
    open_storage: Open, working_dir: Path, redis_client: Redis
) -> None:
    docs = open_storage()
    docs.upsert({"a": 1})
    with (working_dir / "kv_store_full_docs.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=docs.upsert, args=({"b": 2},))
        writer.start()
        eventually(lambda: bool(redis_client.exists(f"{KEY}b")))
        writer.join(0.3)
        assert writer.is_alive()
        assert log(working_dir) == [["set", "a", 1]]
        fcntl.flock(held, fcntl.LOCK_UN)
        writer.join()
    assert log(working_dir) == [["set", "a", 1], ["set", "b", 2]]


# It keeps its lock. Every write waited for it, the first of a process until its own time was over.
@pytest.mark.usefixtures("quiet")
def test_a_process_that_stands_still_with_the_lock_costs_others_one_wait(
    open_storage: Open, working_dir: Path
) -> None:
    with (working_dir / "kv_store_full_docs.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        docs = open_storage(redis_operation_timeout=2)
        since = time.monotonic()
        for number in range(20):
            docs.upsert({str(number): number})
            docs.delete_by_id("none")
        assert time.monotonic() - since < 20, "40 calls that all wait take 40 seconds and more"
        assert docs.get_stats(light=True)["dual_write"] == {"logged": 0, "late": 40, "folds": 0}
        fcntl.flock(held, fcntl.LOCK_UN)
        docs.upsert({"after": 1})
    docs.close()
    assert file(working_dir) == {**{str(number): number for number in range(20)}, "after": 1}


# It was applied before the drop, and is logged after it.
@pytest.mark.usefixtures("quiet")
def test_a_write_that_a_drop_has_overtaken_is_not_in_the_file(
    open_storage: Open, working_dir: Path, redis_client: Redis
) -> None:
    docs = open_storage()
    docs.upsert({"a": 1})
    with (working_dir / "kv_store_full_docs.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=docs.upsert, args=({"b": 2, "c": 3},))
        writer.start()
        eventually(lambda: redis_client.exists(f"{KEY}b", f"{KEY}c") == 2)
        # What another process does that has the lock.
        redis_client.delete(f"{KEY}a", f"{KEY}b", f"{KEY}c")
        redis_client.set(f"{KEY}c", "4")
        with (working_dir / "kv_store_full_docs.changes").open("a") as lines:
            lines.write('["delete","a"]\n["delete","b"]\n["delete","c"]\n["drop"]\n')
        held.write(b".")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_UN)
        writer.join()
    docs.close()
    assert file(working_dir) == {"c": 4}


def test_a_drop_whose_server_is_away_when_it_is_folded_takes_what_it_deleted(
    own_server: RedisServer, open_storage: Open, working_dir: Path, write_file: WriteFile
) -> None:
    docs = open_storage(redis_url=own_server.url, redis_operation_timeout=0.5)
    docs.upsert({"a": 1, "b": 2})
    docs.drop()
    docs.upsert({"b": 3})
    # Folded beside the drop by another process: it is on the server.
    write_file("full_docs", {"a": 1, "meanwhile": 4})
    own_server.client().set(f"{KEY}meanwhile", "4")
    own_server.kill()
    docs.close()
    assert file(working_dir) == {"meanwhile": 4, "b": 3}
    # The questions stay open.
    assert sorted(log(working_dir)) == [["delete?", "a"], ["delete?", "meanwhile"]]


@pytest.mark.usefixtures("quiet")
def test_threads_over_several_storages_lose_no_line(open_storage: Open, working_dir: Path) -> None:
    def write(docs: SyncRedisKVStorage, name: int) -> None:
        for n in range(50):
            docs.upsert({f"{name}-{n}": n})

    shared, other = open_storage(), open_storage()
    threads = [
        threading.Thread(target=write, args=(docs, name))
        for name, docs in enumerate([shared, shared, other])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log(working_dir)) == 150
    shared.close()
    assert file(working_dir) == {f"{name}-{n}": n for name in range(3) for n in range(50)}


WRITER = """
import json
docs = SyncRedisKVStorage("full_docs", {
    "redis_url": URL, "working_dir": sys.argv[2], "redis_dual_write": True,
})
for n in range(200):
    docs.upsert({f"{sys.argv[3]}-{n}": n, "shared": f"{sys.argv[3]}-{n}"})
    if n % 60 == 59:
        # As once a minute, by whoever comes first.
        from nano_graphrag_redis._core import FileWork
        FileWork.fold(docs._backend.calls.blocking, sys.argv[2], ask=True).step()
"""


def test_four_processes_at_once_leave_everything_in_the_file(
    server: RedisServer, working_dir: Path, redis_client: Redis
) -> None:
    def write(name: str) -> None:
        run_script(WRITER, server.url, working_dir, name).cleanly()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Nobody closed: they were closed at exit.
    assert names(working_dir) == {"kv_store_full_docs.json", "kv_store_full_docs.lock"}
    expected = {f"{name}-{n}": n for name in "abcd" for n in range(200)}
    stored: Any = redis_client.get(f"{KEY}shared")
    shared = json.loads(stored)
    assert file(working_dir) == {**expected, "shared": shared}


def test_a_change_that_nobody_waits_for_is_logged(
    open_storage: Open, settings: dict[str, Any], working_dir: Path
) -> None:
    async def write_and_leave() -> None:
        both = {**settings, "working_dir": str(working_dir), "redis_dual_write": True}
        async with RedisKVStorage("full_docs", both) as docs:
            await docs.upsert({"a": 1})
            task = asyncio.ensure_future(docs.upsert({str(n): n for n in range(1000)}))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await docs.upsert({"b": 2})

    asyncio.run(write_and_leave())
    with open_storage() as docs:
        on_server = docs.get_by_ids(ids := docs.all_keys())
    assert file(working_dir) == dict(zip(ids, on_server, strict=True))


def test_a_log_is_folded_once_a_minute_by_itself(open_storage: Open, working_dir: Path) -> None:
    path = working_dir / "kv_store_full_docs.json"
    docs = open_storage()
    docs.upsert({"a": 1})
    done = {"logged": 1, "late": 0, "folds": 1}
    eventually(lambda: docs.get_stats(light=True)["dual_write"] == done)
    assert file(working_dir) == {"a": 1}
    other = open_storage()
    other.upsert({"b": 2})
    time.sleep(1.5)  # within the minute nothing happens, and nothing tells of that
    assert file(working_dir) == {"a": 1}
    os.utime(path, (time.time() - 61, time.time() - 61))
    third = open_storage()
    third.upsert({"c": 3})
    eventually(lambda: file(working_dir) == {"a": 1, "b": 2, "c": 3})
