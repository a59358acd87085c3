"""``redis_dual_write`` where the server has done what nobody was told: the server is asked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from migration.conftest import Open, WriteFile, file
from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import (
    CircuitOpenError,
    StorageError,
    StorageOperationError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer

MANY = {f"x{number:04}": number for number in range(200)}
PREFIX = "nano_graphrag:full_docs:"


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


def heal(proxy: Proxy, docs: SyncRedisKVStorage) -> None:
    proxy.cut_for_good = proxy.blackhole = False
    proxy.allow()
    eventually(docs.check_health)


def on_server(client: Redis) -> dict[str, Any]:
    keys = [key.decode() for key in client.scan_iter(f"{PREFIX}*", count=1000)]
    values: Any = client.mget(keys) if keys else []
    return {key.removeprefix(PREFIX): int(value) for key, value in zip(keys, values, strict=True)}


def test_of_a_batch_that_was_confirmed_in_part_the_rest_is_asked_of_the_server(
    proxy: Proxy, open_storage: Open, write_file: WriteFile, redis_client: Redis
) -> None:
    path = write_file("full_docs", {})
    docs = open_storage(redis_url=proxy.url, redis_max_retries=0)
    docs.check_health()
    proxy.cut_for_good, proxy.cut_after_bytes = True, len("+OK\r\n") * 10
    with pytest.raises(StorageUnavailableError) as failed:
        docs.upsert(MANY)
    confirmed = len(MANY) - len(failed.value.unconfirmed_ids)
    heal(proxy, docs)
    docs.close()
    there = on_server(redis_client)
    assert 0 < confirmed < len(there), "nothing was lost half-way: shows nothing"
    assert file(path.parent) == there


# The registry's own key is of a type that takes no id; the values were set all the same.
def test_values_that_could_not_be_registered_are_in_the_file(
    open_storage: Open, write_file: WriteFile, redis_client: Redis
) -> None:
    path = write_file("full_docs", {"a": 1})
    redis_client.set("nano_graphrag:@registry:full_docs", b"of another program")
    docs = open_storage(redis_registry=True)
    with pytest.raises(StorageOperationError, match="WRONGTYPE") as failed:
        docs.upsert({"a": 2, "b": 3})
    assert failed.value.unconfirmed_ids == ("a", "b")
    docs.close()
    assert file(path.parent) == {"a": 2, "b": 3} == on_server(redis_client)


def test_of_a_delete_that_was_refused_and_then_lost_the_server_is_asked_about_each_id(
    own_server: RedisServer, open_storage: Open, write_file: WriteFile
) -> None:
    client = own_server.client()
    client.execute_command("ACL", "SETUSER", "writer", "on", ">pw", f"~{PREFIX}x*", "+@all")
    path = write_file("full_docs", {"denied": 1, **MANY})
    client.mset({f"{PREFIX}{id}": number for id, number in {"denied": 1, **MANY}.items()})
    with Proxy(own_server.port) as proxy:
        login = {"redis_username": "writer", "redis_password": "pw"}
        docs = open_storage(redis_url=proxy.url, redis_max_retries=0, **login)
        docs.check_health()

        def cut() -> None:
            proxy.cut_for_good, proxy.cut_after_bytes = True, 200  # a refusal and some counts

        proxy.interruption = (b"UNLINK", cut)
        with pytest.raises(StorageOperationError, match="NOPERM") as failed:
            docs.delete_by_ids(["denied", *MANY])
        assert 1 < len(failed.value.unconfirmed_ids) < len(MANY), "shows nothing"
        heal(proxy, docs)
        docs.close()
    assert file(path.parent) == on_server(client) == {"denied": 1}


def swallow_answers_from(proxy: Proxy, command: bytes) -> None:
    def swallow() -> None:
        proxy.blackhole = True

    proxy.interruption = (command, swallow)


# The first attempt is done and its answer lost; what the second is told is no word on the first.
def test_a_write_that_was_done_and_then_refused_is_asked_of_the_server(
    own_server: RedisServer, open_storage: Open, write_file: WriteFile
) -> None:
    path = write_file("full_docs", {"a": 1})
    client = own_server.client()
    with Proxy(own_server.port) as proxy:
        docs = open_storage(redis_url=proxy.url, redis_socket_timeout=2)
        docs.check_health()
        proxy.interruption = (b"full_docs:a", proxy.deafen)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(docs.upsert, {"a": 2})
            eventually(lambda: on_server(client) == {"a": 2})
            client.config_set("maxmemory", "1")
            with pytest.raises(StorageOperationError, match="OOM"):
                writing.result()
        client.config_set("maxmemory", "0")
        docs.close()
    assert file(path.parent) == {"a": 2} == on_server(client)


# Closing brings the file up to date as far as it can; the rest is left to who comes later.
def test_what_a_server_that_is_away_was_not_asked_is_asked_when_it_is_back(
    proxy: Proxy, open_storage: Open, write_file: WriteFile, redis_client: Redis
) -> None:
    path = write_file("full_docs", {"a": 1, "b": 2, "c": 3})
    redis_client.mset({f"{PREFIX}{id}": number for id, number in {"a": 1, "b": 2, "c": 3}.items()})
    docs = open_storage(redis_url=proxy.url, redis_operation_timeout=0.5, redis_max_retries=0)
    docs.check_health()
    swallow_answers_from(proxy, b"SET")
    with pytest.raises(StorageTimeoutError):
        docs.upsert({"a": 2})
    proxy.blackhole = False
    swallow_answers_from(proxy, b"UNLINK")
    with pytest.raises(StorageTimeoutError):
        docs.delete_by_id("b")
    docs.close()
    proxy.blackhole = False
    with open_storage() as back:
        back.upsert({"d": 4})
    assert file(path.parent) == {"a": 2, "c": 3, "d": 4} == on_server(redis_client)


def test_a_delete_whose_answer_was_lost_is_asked_of_the_server(
    proxy: Proxy, open_storage: Open, write_file: WriteFile, redis_client: Redis
) -> None:
    docs = open_storage(redis_url=proxy.url, redis_operation_timeout=1)
    path = write_file("full_docs", {"a": 1})
    docs.upsert({"a": 1, "b": 2})
    swallow_answers_from(proxy, b"UNLINK")
    with pytest.raises(StorageTimeoutError):
        docs.delete_by_id("a")
    heal(proxy, docs)
    docs.close()
    assert file(path.parent) == {"b": 2} == on_server(redis_client)


@pytest.mark.parametrize("registry", [False, True])
def test_a_drop_that_broke_off_half_way_is_in_the_file_as_far_as_it_came(
    proxy: Proxy, open_storage: Open, write_file: WriteFile, redis_client: Redis, *, registry: bool
) -> None:
    many = {f"doc-{number}": number for number in range(3000)}
    settings: dict[str, Any] = {
        "redis_url": proxy.url,
        "redis_max_retries": 0,
        "redis_operation_timeout": 1,
        "redis_registry": registry,
    }
    docs = open_storage(**settings)
    docs.upsert(many)
    docs.close()
    path = write_file("full_docs", many)
    docs = open_storage(**settings)
    swallow_answers_from(proxy, b"UNLINK")
    with pytest.raises(StorageError):
        docs.drop()
    # At once: the process may be killed now.
    log = (path.parent / "kv_store_full_docs.changes").read_text(encoding="utf-8")
    assert log.endswith('["drop"]\n')
    heal(proxy, docs)
    docs.close()
    there = on_server(redis_client)
    assert 0 < len(there) < len(many), "all or nothing was dropped: shows nothing"
    assert file(path.parent) == there


# The files are the last copy then. A drop asks after what was there before it, and nothing else.
def test_what_was_set_after_a_drop_is_kept_where_the_server_comes_back_empty(
    own_server: RedisServer, open_storage: Open, write_file: WriteFile
) -> None:
    path = write_file("full_docs", {"expired": 0, "old": 1})
    away: dict[str, Any] = {"redis_max_retries": 0, "redis_operation_timeout": 1}
    docs = open_storage(redis_url=own_server.url, **away)
    docs.upsert({"old": 1})
    docs.drop()
    docs.upsert({"new": 2})
    own_server.kill()
    docs.close()
    assert file(path.parent) == {"expired": 0, "new": 2}
    own_server.start()
    own_server.client().flushall()
    with open_storage(redis_url=own_server.url) as back:
        back.check_health()
    assert file(path.parent) == {"new": 2}
    assert not (path.parent / "kv_store_full_docs.changes").exists()


# What has expired on the server stays in the file, unless a drop was begun.
def test_a_drop_that_was_never_sent_takes_nothing_from_the_file(
    own_server: RedisServer, open_storage: Open, write_file: WriteFile
) -> None:
    docs = open_storage(
        redis_url=own_server.url,
        redis_max_retries=0,
        redis_breaker_failures=1,
        redis_operation_timeout=1,
    )
    docs.check_health()
    path = write_file("full_docs", {"expired": 1})
    own_server.kill()
    for error in (StorageUnavailableError, CircuitOpenError):
        with pytest.raises(error):
            docs.drop()
    own_server.start()
    eventually(docs.check_health)
    docs.upsert({"a": 2})
    docs.close()
    assert file(path.parent) == {"expired": 1, "a": 2}
