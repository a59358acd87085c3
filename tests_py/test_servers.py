"""The guard behind every other test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from support.servers import RedisServer


def test_a_server_answers_on_its_port_and_on_its_socket(server: RedisServer) -> None:
    over_tcp = server.client(unix_socket_path=None, host="127.0.0.1", port=server.port)
    over_tcp.set("k", "v")
    assert server.client().get("k") == b"v"


def test_each_test_meets_an_empty_server(redis_client: redis.Redis) -> None:
    assert redis_client.dbsize() == 0
    redis_client.set("left", "behind")


def test_each_test_meets_an_empty_server_again(redis_client: redis.Redis) -> None:
    test_each_test_meets_an_empty_server(redis_client)


def test_a_restarted_server_keeps_its_port_and_its_append_only_file(server_binary: Path) -> None:
    with RedisServer(server_binary, appendonly="yes", appendfsync="always") as server:
        address = server.url
        server.client().set("k", "v")
        server.restart()
        assert server.url == address
        assert server.client().get("k") == b"v"


def test_a_paused_server_keeps_its_connections_and_goes_on_later(server_binary: Path) -> None:
    with RedisServer(server_binary) as server:
        client = server.client(socket_timeout=0.05, retry=None)
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert server.client().ping() is True


def test_a_server_that_cannot_start_shows_its_log(server_binary: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="no-such-option"),
        RedisServer(server_binary, no_such_option="1"),
    ):
        pass


def test_a_password_is_asked_for_and_a_closed_guard_leaves_no_process(server_binary: Path) -> None:
    with RedisServer(server_binary, password="s3cret") as server:
        pid = server.pid
        assert server.client().ping() is True
        with pytest.raises(redis.AuthenticationError):
            server.client(password=None).ping()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not server.directory.exists()
