"""A password in a file: read when it is needed, picked up when it changes, never shown."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageAuthError, StorageConfigError
from support.conditions import eventually
from support.servers import RedisServer

CANARY = "s3cret-c4nary"
OPERATOR = "of the operator"


@pytest.fixture
def server(server_binary: Path) -> Iterator[RedisServer]:
    with RedisServer(server_binary, password=OPERATOR) as running:
        running.client().acl_setuser(
            "ann",
            enabled=True,
            passwords=[f"+{CANARY}"],
            keys=["*"],
            categories=["+@all"],
        )
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "password"


@pytest.fixture
def settings(server: RedisServer, file: Path) -> dict[str, Any]:
    return {
        "redis_url": server.url,
        "redis_username": "ann",
        "redis_password_file": file,
    }


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_newline_at_the_end_does_not_count(
    settings: dict[str, Any], file: Path, end: str
) -> None:
    file.write_bytes(f"{CANARY}{end}".encode())
    with SyncRedisKVStorage("full_docs", settings) as storage:
        assert storage.check_health()


@pytest.mark.parametrize("password", [f" {CANARY}", f"{CANARY} ", f"{CANARY}\n\n", f"\n{CANARY}"])
def test_all_else_is_the_password(
    server: RedisServer, settings: dict[str, Any], file: Path, password: str
) -> None:
    file.write_text(password)
    with SyncRedisKVStorage("full_docs", settings) as storage:
        with pytest.raises(StorageAuthError):
            storage.get_by_id("a")
        own = password.removesuffix("\n")
        server.client().execute_command("ACL", "SETUSER", "ann", f">{own}")
        eventually(storage.check_health)


def test_a_password_of_any_bytes_is_sent_as_it_is(
    server: RedisServer, settings: dict[str, Any], file: Path
) -> None:
    password = bytes(range(1, 10)) + b"\xff\xfe\x80 \n\r "
    server.client().execute_command("ACL", "SETUSER", "ann", b">" + password)
    file.write_bytes(password + b"\n")
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": 1})


def test_a_default_user_needs_no_name(server: RedisServer, file: Path) -> None:
    file.write_text(OPERATOR)
    settings = {"redis_url": server.url, "redis_password_file": str(file)}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": 1})


@pytest.mark.parametrize("near_cache", [0, 1])
def test_a_password_that_was_rotated_is_picked_up_by_a_running_process(
    server: RedisServer, settings: dict[str, Any], file: Path, near_cache: int
) -> None:
    file.write_text(CANARY)
    admin = server.client()
    settings["redis_near_cache_mb"] = near_cache
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": 1})
        for number in range(3):
            new = f"{CANARY}-{number}"
            admin.execute_command("ACL", "SETUSER", "ann", "resetpass", f">{new}")
            admin.execute_command("CLIENT", "KILL", "USER", "ann")
            file.write_text(new)
            assert storage.get_by_id("a") == 1


def test_a_file_that_is_replaced_after_the_server_knows_is_waited_for(
    server: RedisServer, settings: dict[str, Any], file: Path
) -> None:
    file.write_text("old")
    with SyncRedisKVStorage("full_docs", settings) as storage:
        for _ in range(5):  # so often that it is not asked any more
            with pytest.raises(StorageAuthError):
                storage.get_by_id("a")
        file.write_text(CANARY)
        assert storage.get_by_id("a") is None


def test_a_file_that_is_being_replaced_keeps_nobody_out(
    server: RedisServer, settings: dict[str, Any], file: Path
) -> None:
    file.write_text(CANARY)
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": 1})
        for half_way in (lambda: file.write_text(""), file.unlink):
            half_way()
            server.client().execute_command("CLIENT", "KILL", "USER", "ann")
            assert storage.get_by_id("a") == 1


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_file_that_holds_no_password_is_named_by_its_setting(
    settings: dict[str, Any], tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / CANARY  # as of one who has put the password in the file's place
    if content is not None:
        file.write_text(content)
    settings["redis_password_file"] = file
    with (
        SyncRedisKVStorage("full_docs", settings) as storage,
        pytest.raises(StorageConfigError, match="redis_password_file") as caught,
    ):
        storage.get_by_id("a")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_the_two_places_of_a_password_are_one_setting(file: Path) -> None:
    for settings in (
        {"redis_password": CANARY},
        {"redis_url": f"redis://:{CANARY}@cache"},
    ):
        with pytest.raises(StorageConfigError, match="redis_password_file are one setting"):
            SyncRedisKVStorage("full_docs", {**settings, "redis_password_file": file})
