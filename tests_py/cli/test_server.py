"""``server start|stop|status``: real servers, real processes, ended by their own ids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.embedded.holder import dismiss_holder, facts_of, holder_of
from support.conditions import eventually
from support.members import guardian_pid, kill, server_pid

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory whose server, if one was started, has ended after the test."""
    home = tmp_path / "server"
    yield home
    dismiss_holder(home)


def told(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.stderr == ""
    data: dict[str, Any] = json.loads(ended.stdout)
    return data


def test_a_server_runs_from_start_to_stop(command: Command, home: Path) -> None:
    status = ("server", "status", str(home), "--json")
    before = command(*status)
    assert (before.returncode, told(before)["running"]) == (3, False)
    assert not home.exists()
    started = told(command("server", "start", str(home), "--json"))
    assert (started["running"], started["kept"]) == (True, True)
    with SyncRedisKVStorage("full_docs", {"redis_url": f"embedded://{home}"}) as docs:
        docs.upsert({"a": 1})
    running = command(*status)
    assert running.returncode == 0
    assert told(running)["pid"] == started["pid"]
    again = told(command("server", "start", str(home), "--json"))
    assert again["pid"] == started["pid"]
    ended = command("server", "stop", str(home), "--json")
    assert (ended.returncode, told(ended)["running"]) == (0, False)
    assert command("server", "stop", str(home)).returncode == 0
    told(command("server", "start", str(home), "--json"))
    with SyncRedisKVStorage("full_docs", {"redis_url": f"embedded://{home}"}) as docs:
        assert docs.get_by_id("a") == 1


def test_a_server_that_others_use_is_not_stopped(command: Command, home: Path) -> None:
    command("server", "start", str(home))
    with SyncRedisKVStorage("full_docs", {"redis_url": f"embedded://{home}"}) as docs:
        docs.upsert({"a": 1})
        ended = command("server", "stop", str(home))
        assert ended.returncode == 1
        assert "until its last user leaves" in ended.stdout
        assert docs.get_by_id("a") == 1
    eventually(lambda: not facts_of(home))


def test_the_server_ends_with_a_keeper_that_is_killed(command: Command, home: Path) -> None:
    command("server", "start", str(home))
    keeper = holder_of(home)
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not facts_of(home))
    assert holder_of(home) is None


def test_a_keeper_gets_its_server_back_though_the_guardian_was_killed_before_it(
    command: Command, home: Path
) -> None:
    command("server", "start", str(home))
    guardian, server = guardian_pid(home), server_pid(home)
    kill(guardian)
    kill(server)
    eventually(lambda: bool(facts_of(home)))
    assert server_pid(home) != server


def test_the_directory_is_that_of_the_setting(command: Command, home: Path) -> None:
    started = command("server", "start", REDIS_URL=f"embedded://{home}")
    assert f"embedded://{home} runs until stop" in started.stdout
    refused = command("server", "start", REDIS_URL="redis://localhost")
    assert refused.returncode == 2
    assert "REDIS_URL=embedded://" in refused.stderr


def test_a_server_that_does_not_start_says_why(command: Command, home: Path) -> None:
    refused = command("server", "start", str(home), REDIS_SERVER_BIN="/bin/false")
    assert refused.returncode == 2
    assert "/bin/false" in refused.stderr
    assert "StorageConfigError" not in refused.stderr
    assert holder_of(home) is None
    program = home.parent / "redis-server"
    program.write_text('#!/bin/sh\ntest "$1" = --version && echo "Redis server v=7.0.15 sha=0"\n')
    program.chmod(0o700)
    ended = command("server", "start", str(home), REDIS_SERVER_BIN=str(program))
    assert ended.returncode == 3
    assert "ended before it answered" in ended.stderr
    assert "StorageUnavailableError" not in ended.stderr


def test_the_directory_may_be_named_by_its_url(
    command: Command, home: Path, tmp_path: Path
) -> None:
    try:
        started = told(command("server", "start", "embedded://./server", "--json"))
        assert started["url"] == f"embedded://{home}"
        assert told(command("server", "status", str(home), "--json"))["kept"]
    finally:
        command("server", "stop", "embedded://./server")
    assert [each.name for each in tmp_path.iterdir()] == ["server"]


@pytest.mark.parametrize("url", ["redis://:canary@localhost", "file:///srv", "embedded://"])
def test_a_url_of_another_kind_is_no_directory(command: Command, tmp_path: Path, url: str) -> None:
    refused = command("server", "start", url)
    assert refused.returncode == 2
    assert "give its directory, or embedded://DIRECTORY" in refused.stderr
    assert "canary" not in refused.stderr
    assert not list(tmp_path.iterdir())
