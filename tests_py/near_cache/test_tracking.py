"""Copies are served only while the server tells what changes."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
import redis

from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.conditions import eventually
from support.proxy import Proxy
from support.scripts import run_script
from support.servers import RedisServer

from .conftest import PREFIX, Near, OpenNear

KEY = PREFIX + "id"
NAME = f"nano-graphrag-redis:{os.getpid()}"


def trackers(client: redis.Redis) -> list[str]:
    """The ids of our tracking connections, as the server sees them."""
    return [c["id"] for c in client.client_list() if c["name"] == NAME and "t" in c["flags"]]


def test_storages_share_one_tracking_connection_which_the_last_one_closes(
    server: RedisServer, open_near: OpenNear, redis_client: redis.Redis
) -> None:
    docs, twin, chunks = open_near(), open_near(), open_near("text_chunks")
    docs.upsert({"id": 1})
    docs.fill("id")
    chunks.wait_until_tracking()
    hits = twin.cache["hits"]
    assert twin.get_by_id("id") == 1
    assert twin.cache["hits"] == hits + 1, "two storages of a namespace share their copies"
    assert len(trackers(redis_client)) == 1
    docs.close()
    twin.close()
    chunks.upsert({"id": 2})
    assert chunks.fill("id") == 2
    assert len(trackers(redis_client)) == 1
    chunks.close()
    eventually(lambda: not trackers(redis_client))


def test_without_the_setting_nothing_is_tracked(
    open_near: OpenNear, redis_client: redis.Redis
) -> None:
    storage = open_near(redis_near_cache_mb=0)
    storage.upsert({"id": 1})
    assert storage.get_stats()["near_cache"] is None
    assert trackers(redis_client) == []


def test_only_what_changes_in_a_tracked_namespace_is_told(
    open_near: OpenNear, redis_client: redis.Redis
) -> None:
    near, plain = open_near(), open_near("text_chunks", redis_near_cache_mb=0)
    near.wait_until_tracking()
    with near.hears():
        plain.upsert({f"id-{n}": n for n in range(100)})
        redis_client.set(KEY, b"1")
    assert near.cache["invalidations"] == 1


def test_a_killed_tracking_connection_takes_the_copies_along_and_comes_back(
    near: Near, redis_client: redis.Redis
) -> None:
    for version in range(8):
        redis_client.set(KEY, f"{version}")
        eventually(lambda version=version: near.fill("id") == version)
        [tracker] = trackers(redis_client)
        with redis_client.pipeline(transaction=True) as together:
            # Nobody is told of the write: the connection ends before it.
            together.execute_command("CLIENT", "KILL", "ID", tracker)
            together.set(KEY, f"{version + 1}")
            together.execute()
        eventually(lambda tracker=tracker: trackers(redis_client) not in ([], [tracker]))
        near.wait_until_tracking()
        assert near.get_by_id("id") == version + 1


def test_nothing_is_served_locally_until_tracking_is_back(
    own_server: RedisServer, open_near: OpenNear
) -> None:
    near = open_near(redis_url=own_server.url)
    near.upsert({"id": "old"})
    near.fill("id")
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
        client.execute_command("CLIENT", "KILL", "ID", *trackers(client))
        eventually(lambda: not near.cache["tracking"])
        assert near.cache["values"] == 0
        hits = near.cache["hits"]
        assert near.get_by_id("id") == "old"
        client.set(KEY, b'"new"')
        assert near.get_by_id("id") == "new"
        assert near.cache["hits"] == hits
        assert near.cache["values"] == 0


def test_a_connection_that_falls_silent_is_not_trusted_for_long(
    proxy: Proxy, open_near: OpenNear, redis_client: redis.Redis
) -> None:
    near = open_near(redis_url=proxy.url, redis_socket_timeout=1.0)
    near.upsert({"id": "old"})
    assert near.fill("id") == "old"
    proxy.hold = frozenset({"TRACKING"})
    redis_client.set(KEY, b'"new"')
    eventually(lambda: near.get_by_id("id") == "new")
    proxy.hold = frozenset()
    assert near.fill("id") == "new"


def test_a_restarted_server_is_asked_again(own_server: RedisServer, open_near: OpenNear) -> None:
    near = open_near(redis_url=own_server.url)
    near.upsert({"id": "old"})
    near.fill("id")
    own_server.kill()
    shutil.rmtree(own_server.directory / "appendonlydir")
    own_server.start()
    eventually(lambda: near.get_by_id("id") is None)
    near.upsert({"id": "new"})
    assert near.fill("id") == "new"


def test_a_server_that_is_away_has_no_copies_served_in_its_name(
    own_server: RedisServer, open_near: OpenNear
) -> None:
    near = open_near(redis_url=own_server.url, redis_max_retries=0, redis_socket_timeout=1.0)
    near.upsert({"id": "old"})
    near.fill("id")

    def fails() -> bool:
        try:
            near.get_by_id("id")
        except StorageUnavailableError:
            return True
        return False

    own_server.pause()
    eventually(fails)
    own_server.resume()
    eventually(lambda: not fails())
    assert near.fill("id") == "old"
    own_server.kill()
    eventually(fails)


# A server before version 6 knows no HELLO.
REFUSALS = {
    "NOPERM": "user default on nopass ~* &* +@all -client|tracking",
    "unknown command": 'rename-command HELLO ""',
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_server_that_refuses_to_track_costs_one_warning(
    server_binary: Path, open_near: OpenNear, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    with RedisServer(server_binary, config=(REFUSALS[reason],)) as server:
        near = open_near(redis_url=server.url)
        chunks = open_near("text_chunks", redis_url=server.url)

        def told() -> list[str]:
            near.upsert({"id": 1})
            assert (near.get_by_id("id"), chunks.get_by_id("id")) == (1, None)
            return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

        eventually(lambda: bool(told()))
        [warning] = told()
        assert "near cache is off" in warning
        assert reason in warning
        assert near.cache["hits"] == 0
        assert not near.cache["tracking"]


def test_a_forked_child_has_a_cache_and_a_connection_of_its_own(server: RedisServer) -> None:
    script = """
    import redis
    near = SyncRedisKVStorage("full_docs", {"redis_url": URL, "redis_near_cache_mb": 8})
    client = redis.Redis.from_url(URL)
    def fill(value):
        deadline = time.monotonic() + 20
        hits = stats()["hits"]
        while stats()["hits"] == hits:
            assert near.get_by_id("id") == value and time.monotonic() < deadline
    def stats():
        return near.get_stats(light=True)["near_cache"]
    def foreign(value):
        heard = stats()["invalidations"]
        client.set("nano_graphrag:full_docs:id", value)
        while stats()["invalidations"] == heard: pass
        assert near.get_by_id("id") == value
    near.upsert({"id": 0})
    fill(0)
    heard = stats()["invalidations"]
    pid = os.fork()
    signal.alarm(40)
    if pid == 0:
        client = redis.Redis.from_url(URL)
        assert stats()["hits"] == 0
        fill(0)
        foreign(1)
        near.upsert({"id": 2})
        fill(2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    while stats()["invalidations"] == heard: pass
    fill(2)
    foreign(3)
    client.close()
    near.close()
    """
    run_script(dedent(script), server.url).cleanly()
