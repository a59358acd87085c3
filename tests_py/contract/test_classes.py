"""The shape of the two classes, as hosts look at it."""

import asyncio
import dataclasses
import inspect
from typing import Any

import pytest
from nano_graphrag.base import BaseKVStorage, StorageNameSpace

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage

SETTINGS: dict[str, Any] = {"redis_url": "redis://127.0.0.1:6379"}

METHODS = [
    "all_keys", "get_by_id", "get_by_ids", "filter_keys", "upsert", "delete_by_id",
    "delete_by_ids", "drop", "index_start_callback", "index_done_callback", "query_done_callback",
    "get_stats", "check_health", "close",
]  # fmt: skip


def test_the_class_is_what_the_host_looks_for() -> None:
    storage = RedisKVStorage(namespace="full_docs", global_config=SETTINGS)
    assert type(storage).__name__ == "RedisKVStorage"
    assert issubclass(RedisKVStorage, BaseKVStorage)
    assert isinstance(storage, BaseKVStorage)
    assert isinstance(storage, StorageNameSpace)
    assert not isinstance(storage.sync, BaseKVStorage)


def test_the_class_is_a_dataclass_of_the_hosts_two_fields() -> None:
    storage = RedisKVStorage("full_docs", SETTINGS)
    assert dataclasses.is_dataclass(RedisKVStorage)
    assert [field.name for field in dataclasses.fields(RedisKVStorage)] == [
        "namespace",
        "global_config",
    ]
    assert storage.namespace == "full_docs"
    assert storage.global_config is SETTINGS


def test_the_blocking_storage_is_made_once() -> None:
    # Its settings are read when it is made, which takes as long as several calls.
    storage = RedisKVStorage("full_docs", SETTINGS)
    assert storage.sync is storage.sync


def test_there_is_one_class() -> None:
    from nano_graphrag_redis.storage import RedisKVStorage as by_module  # noqa: N813

    assert by_module is RedisKVStorage


@pytest.mark.parametrize("method", METHODS)
def test_every_storage_method_is_a_coroutine_function(method: str) -> None:
    storage = RedisKVStorage("full_docs", SETTINGS)
    assert asyncio.iscoroutinefunction(getattr(storage, method))
    assert inspect.iscoroutinefunction(getattr(RedisKVStorage, method))


@pytest.mark.parametrize("method", METHODS)
def test_the_sync_class_has_the_same_methods_with_the_same_parameters(method: str) -> None:
    blocking = getattr(SyncRedisKVStorage, method)
    assert not inspect.iscoroutinefunction(blocking)
    awaited = inspect.signature(getattr(RedisKVStorage, method))
    assert list(inspect.signature(blocking).parameters) == list(awaited.parameters)


@pytest.mark.parametrize("cls", [RedisKVStorage, SyncRedisKVStorage])
def test_public_names_have_docstrings(cls: type) -> None:
    assert cls.__doc__
    assert [name for name in METHODS if not getattr(cls, name).__doc__] == []


@pytest.mark.parametrize("cls", [RedisKVStorage, SyncRedisKVStorage])
def test_a_repr_names_the_namespace_and_no_password(cls: Any) -> None:
    url = "redis://marley:humbug@127.0.0.1:6379"
    shown = repr(cls("full_docs", {"redis_url": url, "redis_password": "humbug"}))
    assert "full_docs" in shown
    assert "humbug" not in shown
