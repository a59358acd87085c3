"""What a first connection meets: proxies that know little of Redis, settings that cannot work."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import (
    StorageAuthError,
    StorageError,
    StorageOperationError,
    StorageUnavailableError,
    SyncRedisKVStorage,
)
from support.conditions import eventually
from support.proxy import Proxy
from support.servers import RedisServer

CONNECTION_TIMEOUT = 10.0


def refusal(url: str, **settings: Any) -> StorageError:
    """The error of a first call, which has to come within the connection timeout."""
    settings = {"redis_connection_timeout": CONNECTION_TIMEOUT} | settings
    with SyncRedisKVStorage("full_docs", {"redis_url": url, **settings}) as storage:
        began = time.monotonic()
        with pytest.raises(StorageError) as caught:
            storage.get_by_id("doc-1")
        assert time.monotonic() - began < CONNECTION_TIMEOUT
    return caught.value


def names(server: RedisServer) -> list[str]:
    return [client["name"] for client in server.client().client_list() if client["name"]]


@pytest.mark.parametrize("words", [b"CLIENT", b"SETNAME", b"SETINFO"])
@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("password", [None, "s3cret"])
def test_a_proxy_that_hangs_up_at_a_name_is_served_without_one(
    server_binary: Path, words: bytes, retries: int, password: str | None
) -> None:
    with RedisServer(server_binary, password=password) as server, Proxy(server.port) as proxy:
        proxy.hangs_up_at = (words,)
        settings = {"redis_password": password, "redis_max_retries": retries}
        with SyncRedisKVStorage("full_docs", {"redis_url": proxy.url, **settings}) as storage:
            storage.upsert({"doc-1": {"content": "Marley was dead"}})
            assert storage.get_by_id("doc-1") == {"content": "Marley was dead"}
            assert names(server) == []
            # A second connection does not go the long way round again.
            proxy.records = []
            with SyncRedisKVStorage("full_docs", {"redis_url": proxy.url, **settings}) as other:
                assert other.all_keys() == ["doc-1"]
            assert all(words not in record.sent for record in proxy.records)


def test_a_server_that_hangs_up_once_is_told_the_name_afterwards(server: RedisServer) -> None:
    with Proxy(server.port) as proxy:
        settings = {"redis_url": proxy.url, "redis_health_check_interval": 0}
        with SyncRedisKVStorage("full_docs", settings) as storage:
            storage.get_by_id("doc-1")
            (name,) = names(server)
            proxy.cut_after = 0
            storage.get_by_id("doc-1")
            eventually(lambda: names(server) == [name])


@pytest.mark.parametrize("words", [b"HELLO", b"TRACKING"])
def test_a_near_cache_behind_a_proxy_that_hangs_up_at_it_is_off_and_said_to_be(
    server: RedisServer, words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="nano_graphrag_redis")
    with Proxy(server.port) as proxy:
        proxy.hangs_up_at = (words,)
        settings = {"redis_url": proxy.url, "redis_near_cache_mb": 1}
        with SyncRedisKVStorage("full_docs", settings) as storage:
            storage.upsert({"doc-1": {"content": "Marley was dead"}})

            def said() -> list[str]:
                assert storage.get_by_id("doc-1") == {"content": "Marley was dead"}
                return [m for m in caplog.messages if "the near cache is off" in m]

            eventually(lambda: len(said()) == 1)
            assert "knows no HELLO or CLIENT TRACKING" in said()[0]
            near = storage.get_stats()["near_cache"]
            assert near is not None
            assert not near["tracking"]


def test_a_port_without_tls_is_said_to_have_none(server: RedisServer) -> None:
    url = server.url.replace("redis://", "rediss://")
    for _ in range(4):  # the first words of TLS hold the end of a line by chance
        error = refusal(url)
        assert isinstance(error, StorageUnavailableError)
        assert "does not speak TLS" in str(error)
        assert "use redis://" in str(error)
        assert f"127.0.0.1:{server.port}" in str(error)


def test_a_database_that_the_server_does_not_have_is_named(server: RedisServer) -> None:
    error = refusal(f"{server.url}/99")
    assert isinstance(error, StorageOperationError)
    assert f"127.0.0.1:{server.port}/99: redis_url names the database 99" in str(error)
    assert "use a lower number" in str(error)
    assert "see the server's log" not in str(error)


@pytest.mark.parametrize(
    "settings", [{}, {"redis_password": "wrong"}, {"redis_username": "ann", "redis_password": "x"}]
)
def test_a_refused_login_names_the_server(server_binary: Path, settings: dict[str, Any]) -> None:
    with RedisServer(server_binary, password="s3cret") as server:
        for _ in range(5):
            error = refusal(server.url, **settings)
            assert isinstance(error, StorageAuthError)
            assert f"127.0.0.1:{server.port}" in str(error)
            assert "check redis_username and redis_password" in str(error)
            assert "s3cret" not in str(error)


def test_a_server_that_asks_for_a_login_is_not_stormed_without_one(server_binary: Path) -> None:
    with RedisServer(server_binary, password="s3cret") as server:
        client = server.client()
        before = client.info("stats")["total_connections_received"]
        with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as storage:
            for _ in range(50):
                with pytest.raises(StorageAuthError):
                    storage.get_by_id("doc-1")
            asked = client.info("stats")["total_connections_received"] - before
            assert asked <= 10
            # Whoever allows it is heard of without a new process.
            client.config_set("requirepass", "")

            def works() -> bool:
                try:
                    return storage.get_by_id("doc-1") is None
                except StorageAuthError:
                    return False

            eventually(works)


def test_a_command_that_the_server_does_not_have_is_named(server_binary: Path) -> None:
    with (
        RedisServer(server_binary, config=('rename-command GET ""',)) as server,
        SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as storage,
        pytest.raises(StorageOperationError) as caught,
    ):
        storage.get_by_id("doc-1")
    assert "GET" in str(caught.value)
    assert "does not have this command" in str(caught.value)
