"""What a user of ``REDIS_URL=embedded://...`` sees."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import pytest

from nano_graphrag_redis import (
    RedisKVStorage,
    StorageConfigError,
    StorageUnavailableError,
    SyncRedisKVStorage,
)
from support.members import (
    Member,
    client,
    eventually,
    guardian_pid,
    is_locked,
    is_running,
    kill,
    server_pid,
)
from support.scripts import run_script

StartMember = Callable[..., Member]


def settings(directory: Path) -> dict[str, str]:
    """The settings that name a directory's server."""
    return {"redis_url": f"embedded://{directory}"}


def test_making_a_storage_starts_nothing_and_its_first_call_does(directory: Path) -> None:
    with SyncRedisKVStorage("full_docs", settings(directory)) as storage:
        assert not directory.exists()
        assert storage.all_keys() == []
        server = server_pid(directory)
    eventually(lambda: not is_running(server))


def test_values_outlive_the_server_and_come_back_through_the_other_class(directory: Path) -> None:
    with SyncRedisKVStorage("full_docs", settings(directory)) as storage:
        storage.upsert({"id": {"content": "text"}})

    async def read() -> object:
        async with RedisKVStorage("full_docs", settings(directory)) as storage:
            return await storage.get_by_id("id")

    assert asyncio.run(read()) == {"content": "text"}


def test_storages_share_the_server_until_the_last_one_is_closed(directory: Path) -> None:
    first = SyncRedisKVStorage("full_docs", settings(directory))
    second = SyncRedisKVStorage("text_chunks", settings(directory))
    first.upsert({"id": 1})
    second.upsert({"id": 2})
    server = server_pid(directory)
    first.close()
    first.close()
    assert second.get_by_id("id") == 2
    second.close()
    eventually(lambda: not is_running(server))


# A notebook begins anew so, and closes nothing: what it then wrote went with the old server.
def test_what_is_written_after_the_directory_was_removed_is_in_the_new_one(
    directory: Path,
) -> None:
    old = SyncRedisKVStorage("full_docs", settings(directory))
    old.upsert({"old": 1})
    guardian = guardian_pid(directory)
    os.kill(guardian, signal.SIGSTOP)  # who ends the old server has not come to it yet
    shutil.rmtree(directory)
    with (
        ThreadPoolExecutor(1) as pool,
        SyncRedisKVStorage("full_docs", settings(directory)) as storage,
    ):
        ids = pool.submit(storage.all_keys)
        try:
            with pytest.raises(FutureTimeoutError):
                ids.result(timeout=1)
        finally:
            os.kill(guardian, signal.SIGCONT)
        assert ids.result() == []
        storage.upsert({"new": 2})
    old.close()
    with SyncRedisKVStorage("full_docs", settings(directory)) as storage:
        assert storage.all_keys() == ["new"]


def test_a_call_after_a_crash_of_the_server_finds_it_started_again(directory: Path) -> None:
    # On a busy machine a server takes longer to start than four attempts do.
    patient = settings(directory) | {"redis_max_retries": 20}
    with SyncRedisKVStorage("full_docs", patient) as storage:
        storage.upsert({"id": 1})
        kill(server_pid(directory))
        assert storage.get_by_id("id") == 1


def test_a_storage_that_lives_on_gets_its_server_back_though_the_guardian_was_killed_before_it(
    directory: Path,
) -> None:
    with SyncRedisKVStorage("full_docs", settings(directory)) as storage:
        storage.upsert({"id": 1})
        guardian, server = guardian_pid(directory), server_pid(directory)
        kill(guardian)
        kill(server)
        eventually(storage.check_health)
        assert storage.get_by_id("id") == 1
        killed = server_pid(directory)
        kill(killed)  # which the new guardian starts again
        eventually(storage.check_health)
        assert storage.get_by_id("id") == 1
        last = server_pid(directory)
    assert len({server, killed, last}) == 3
    eventually(lambda: not is_running(last))


def test_a_storage_that_lives_on_brings_another_guardian_to_its_server(directory: Path) -> None:
    with SyncRedisKVStorage("full_docs", settings(directory)) as storage:
        storage.upsert({"id": 1})
        server = server_pid(directory)
        kill(guardian_pid(directory))
        eventually(lambda: is_locked(directory / "guardian.lock"))
        assert server_pid(directory) == server


@pytest.mark.usefixtures("runtime")
def test_the_socket_of_a_directory_with_a_long_and_odd_name_is_found(tmp_path: Path) -> None:
    directory = tmp_path / ("a%20b c" + "x" * 150)
    url = f"embedded://{str(directory).replace('%', '%25')}"
    with SyncRedisKVStorage("full_docs", {"redis_url": url}) as storage:
        storage.upsert({"id": 1})
        with client(directory) as connection:
            assert connection.keys() == [b"nano_graphrag:full_docs:id"]


def test_a_directory_that_will_not_do_is_a_settings_error_even_for_the_cache_that_misses(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with (
        SyncRedisKVStorage("llm_response_cache", settings(tmp_path / "file")) as storage,
        pytest.raises(StorageConfigError, match="cannot be used"),
    ):
        storage.get_by_id("id")


_WORKER = """
import sys
from nano_graphrag_redis import SyncRedisKVStorage

storage = SyncRedisKVStorage("llm_response_cache", {"redis_url": f"embedded://{sys.argv[1]}"})
storage.upsert({"answer": {"return": "text"}})
print("joined", flush=True)
sys.stdin.read()
"""


def test_a_process_that_never_closes_its_storage_ends_cleanly_and_leaves_the_server(
    directory: Path, start_member: StartMember
) -> None:
    worker = start_member(script=_WORKER).join()
    server = server_pid(directory)
    worker.leave()
    eventually(lambda: not is_running(server))


_REFUSED = """
import resource
import concurrent.futures.thread
from nano_graphrag_redis import embedded

cache = RedisKVStorage("llm_response_cache", {"redis_url": URL, "redis_breaker_recovery": 0.1})
loop = asyncio.new_event_loop()
wait = loop.run_until_complete
if sys.argv[2] == "threads":
    threading.stack_size(2**30)
    with open("/proc/self/statm") as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    which, limit = resource.RLIMIT_AS, used + 2**29
else:
    which, limit = resource.RLIMIT_NOFILE, max(map(int, os.listdir("/proc/self/fd"))) + 1
before = resource.getrlimit(which)
resource.setrlimit(which, (limit, before[1]))
assert wait(cache.get_by_id("a")) is None
wait(cache.upsert({"a": 1}))
wait(cache.index_done_callback())
try:
    wait(storage.get_by_id("a"))
except StorageUnavailableError:
    print("a miss")
resource.setrlimit(which, before)
threading.stack_size(0)
while wait(cache.get_by_id("a")) != 1:
    wait(cache.upsert({"a": 1}))
wait(cache.close())
loop.close()
"""


@pytest.mark.parametrize("refused", ["threads", "descriptors"])
def test_what_a_process_is_refused_to_join_its_server_is_a_miss_of_the_llm_cache(
    directory: Path, refused: str
) -> None:
    ended = run_script(_REFUSED, f"embedded://{directory}", refused)
    assert (ended.code, ended.out) == (0, "a miss\n"), ended


def test_a_server_that_does_not_start_is_a_miss_of_the_llm_cache_and_tried_again(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    server = tmp_path / "server"
    server.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=7.0.15 sha=0" && exit 0\n'
        f"echo started >> {starts}\nexit 1\n"
    )
    server.chmod(0o755)
    recovery = {"redis_breaker_recovery": 1.0}
    with monkeypatch.context() as patch:
        patch.setenv("REDIS_SERVER_BIN", str(server))
        cache = RedisKVStorage("llm_response_cache", settings(directory) | recovery)

        async def use() -> object:
            await cache.upsert({"id": {"return": "text"}})
            await cache.index_done_callback()
            return await cache.get_by_id("id")

        assert asyncio.run(use()) is None
        assert cache.sync.get_by_id("id") is None
        assert starts.read_text() == "started\n"
        with pytest.raises(StorageUnavailableError):
            SyncRedisKVStorage("full_docs", settings(directory)).get_by_id("id")

    def is_back() -> bool:
        cache.sync.upsert({"id": {"return": "text"}})
        return cache.sync.get_by_id("id") is not None

    eventually(is_back)
    cache.sync.close()
