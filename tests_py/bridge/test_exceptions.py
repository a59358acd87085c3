"""Exceptions provoked by their real cause, and caught by their names and their builtin parents.

Those that take a scene of their own have it elsewhere: ``CircuitOpenError`` in
``faults/test_outages.py``, ``DurabilityError`` in ``durability/``, ``StorageMemoryError`` in
``faults/test_refused_memory.py``, ``JsonFileError`` in ``migration/test_json_file.py``.
"""

import asyncio
from typing import Any

import pytest

import nano_graphrag_redis
from bridge.conftest import OpenStorage
from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import (
    CorruptValueError,
    StorageAuthError,
    StorageClosedError,
    StorageConfigError,
    StorageOperationError,
    StorageSerializationError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from support.servers import RedisServer


@pytest.mark.parametrize("given", [{}, {"redis_password": "canary-42"}])
def test_a_password_that_is_missing_or_wrong_is_an_auth_error(
    server_binary: str, open_storage: OpenStorage, given: dict[str, str]
) -> None:
    with RedisServer(password="right") as server:
        storage = open_storage(redis_url=server.url, **given)
        with pytest.raises(StorageAuthError, match="redis_password") as caught:
            asyncio.run(storage.get_by_id("a"))
        assert "canary-42" not in str(caught.value)
        right = open_storage(redis_url=server.url, redis_password="right")
        assert right.sync.get_by_id("a") is None


def test_an_error_of_the_server_is_an_operation_error(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    storage = open_storage(redis_url=own_server.url)
    own_server.client().config_set("maxmemory", "1")
    with pytest.raises(StorageOperationError, match=r"OOM.*full_docs") as caught:
        storage.sync.upsert({"a": 1})
    assert caught.value.unconfirmed_ids == ("a",)


def test_a_read_only_server_is_an_operation_error(own_server: RedisServer) -> None:
    own_server.client().replicaof("127.0.0.1", 1)
    with (
        SyncRedisKVStorage("full_docs", {"redis_url": own_server.url}) as storage,
        pytest.raises(StorageOperationError, match=r"READONLY.*primary"),
    ):
        storage.upsert({"a": 1})


def test_corrupt_bytes_are_a_value_error(storage: RedisKVStorage, server: RedisServer) -> None:
    server.client().set("nano_graphrag:full_docs:a", b"{")
    with pytest.raises(CorruptValueError) as caught:
        storage.sync.get_by_id("a")
    assert isinstance(caught.value, ValueError)


def test_a_value_that_is_no_json_is_a_type_error(storage: RedisKVStorage) -> None:
    with pytest.raises(StorageSerializationError, match="'a'") as caught:
        storage.sync.upsert({"ok": 1, "a": object()})
    assert isinstance(caught.value, TypeError)
    assert storage.sync.get_by_id("ok") is None


# A dict that grows while it is walked must be an error of ours, never a panic of Rust.
def test_a_value_that_changes_while_it_is_encoded_is_refused(storage: RedisKVStorage) -> None:
    class Growing(dict[str, int]):
        def items(self) -> Any:
            parent[f"x{len(parent)}"] = 1
            return super().items()

    parent: dict[str, object] = {}
    parent["a"], parent["b"] = Growing(b=1), 2
    with pytest.raises(StorageSerializationError):
        storage.sync.upsert({"id": parent})


def test_a_closed_storage_and_a_wrong_setting_have_errors_of_their_own(
    storage: RedisKVStorage,
) -> None:
    storage.sync.close()
    with pytest.raises(StorageClosedError):
        storage.sync.get_by_id("a")
    with pytest.raises(StorageConfigError, match="redis_max_connections"):
        SyncRedisKVStorage("full_docs", {"redis_max_connections": -1})


def test_builtin_parents_catch_what_they_stand_for(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    settings: dict[str, Any] = {"redis_max_retries": 0, "redis_operation_timeout": 0.2}
    storage = open_storage(redis_url=own_server.url, **settings)
    storage.sync.upsert({"a": 1})
    own_server.pause()
    with pytest.raises(TimeoutError) as late:
        storage.sync.get_by_id("a")
    own_server.resume()
    own_server.kill()
    with pytest.raises(ConnectionError) as gone:
        storage.sync.get_by_id("a")
    assert type(late.value) is StorageTimeoutError
    assert type(gone.value) is StorageUnavailableError
    assert late.value.args == (str(late.value),), "a second argument would be an errno"


def test_a_call_outside_any_loop_says_so() -> None:
    store = nano_graphrag_redis.RedisKVStorage("full_docs", {})
    with pytest.raises(RuntimeError, match="no running event loop"):
        store._core.get_by_id("a")  # type: ignore[union-attr]
