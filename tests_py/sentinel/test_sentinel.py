"""What sentinels say is done, and what they do not say is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import (
    StorageAuthError,
    StorageError,
    StorageUnavailableError,
)
from support.conditions import eventually
from support.sentinel import NAME, USER, Sentinels

SECRET = "s3cret-c4nary"


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    """Of this test alone: they take seconds to start, and longer to be whole after a failover."""
    with Sentinels() as running:
        yield running


@pytest.fixture
def storage(sentinels: Sentinels) -> Iterator[SyncRedisKVStorage]:
    with SyncRedisKVStorage("full_docs", sentinels.settings) as storage:
        yield storage


def until_it_passes(storage: SyncRedisKVStorage, number: int) -> None:
    """Writes again and again, as a host that goes on, until a write is confirmed."""

    def passes() -> bool:
        try:
            storage.upsert({"a": number})
        except StorageError:
            return False
        return True

    eventually(passes)


def eventually_read(storage: SyncRedisKVStorage, id: str) -> object:
    """The value, as soon as a read passes."""
    values = []

    def passes() -> bool:
        try:
            values.append(storage.get_by_id(id))
        except StorageError:
            return False
        return True

    eventually(passes)
    return values[0]


def test_a_master_that_is_killed_is_replaced(
    sentinels: Sentinels, storage: SyncRedisKVStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage.upsert({"a": 0})
    killed = sentinels.master
    killed.kill()
    try:
        until_it_passes(storage, 1)
    finally:
        killed.start()
    # The storage may hear of it from the first sentinel that knows.
    eventually(lambda: sentinels.master is not killed)
    (told,) = [each.getMessage() for each in caplog.records if each.event == "failover"]  # type: ignore[attr-defined]
    assert told.endswith(f"in place of {killed.url}/0")
    assert sentinels.client().get("nano_graphrag:full_docs:a") == b"1"


def test_a_walk_over_all_keys_is_begun_again_where_a_failover_breaks_it_off(
    sentinels: Sentinels, storage: SyncRedisKVStorage
) -> None:
    ids = {f"id-{number}" for number in range(20_000)}
    storage.upsert(dict.fromkeys(ids, 1))
    eventually(lambda: sentinels.is_whole)
    found: list[set[str]] = []
    walking = threading.Event()

    def walk() -> None:
        while not walking.is_set():
            found.append(set(storage.all_keys()))

    walker = threading.Thread(target=walk)
    walker.start()
    before = sentinels.master
    sentinels.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", NAME)
    eventually(lambda: sentinels.master is not before)
    walking.set()
    walker.join()
    assert found
    assert all(keys == ids for keys in found)


def test_sentinels_that_are_down_are_skipped_and_the_known_master_outlives_them_all(
    sentinels: Sentinels,
) -> None:
    first, second, third = sentinels.sentinels
    with SyncRedisKVStorage("full_docs", sentinels.settings) as storage:
        try:
            first.kill()
            second.kill()
            storage.upsert({"a": 1})
            third.kill()
            assert storage.get_by_id("a") == 1
            with (
                SyncRedisKVStorage(
                    "text_chunks", sentinels.settings | {"redis_max_retries": 0}
                ) as other,
                pytest.raises(StorageUnavailableError) as caught,
            ):
                other.get_by_id("a")
        finally:
            for sentinel in sentinels.sentinels:
                if not sentinel.is_running:
                    sentinel.start()
    message = str(caught.value)
    assert f"no sentinel says where the master {NAME!r} is".replace("'", '"') in message
    assert all(f"127.0.0.1:{sentinel.port}" in message for sentinel in sentinels.sentinels)
    assert "Connection refused" in message


# As every new master does until the first replica has joined it.
def test_a_sentinel_that_was_away_during_a_failover_is_not_believed_alone(
    sentinels: Sentinels, storage: SyncRedisKVStorage
) -> None:
    old, outdated = sentinels.master, sentinels.sentinels[0]
    storage.upsert({"a": "before"})
    outdated.kill()
    old.kill()
    until_it_passes(storage, 1)
    # The old master is back with what it had, and is told of its replacement by nobody: those who
    # know of it are silent, like the new one.
    eventually(lambda: sentinels.master_by(sentinels.sentinels[1]) is not old)
    new = sentinels.master_by(sentinels.sentinels[1])
    silent = [new, *sentinels.sentinels[1:]]
    for each in silent:
        each.pause()
    old.start()
    outdated.start()
    assert sentinels.master_by(outdated) is old
    try:
        for _ in range(3):
            with pytest.raises(StorageUnavailableError):
                storage.get_by_id("a")
    finally:
        for each in silent:
            each.resume()
    assert eventually_read(storage, "a") == 1


def test_a_master_that_has_lost_its_replicas_is_an_outage_for_writes_alone(
    sentinels: Sentinels, storage: SyncRedisKVStorage
) -> None:
    eventually(lambda: sentinels.is_whole)
    storage.upsert({"a": 1})
    replicas = [server for server in sentinels.servers if server is not sentinels.master]
    for replica in replicas:
        replica.pause()
    try:
        eventually(lambda: sentinels.good_replicas == 0)
        with pytest.raises(StorageUnavailableError, match=r"NOREPLICAS .*try again"):
            storage.upsert({"a": 2})
        assert storage.get_by_id("a") == 1
    finally:
        for replica in replicas:
            replica.resume()
    eventually(lambda: sentinels.is_whole)
    storage.upsert({"a": 2})
    assert storage.get_by_id("a") == 2


def test_a_master_that_no_sentinel_knows_is_named(sentinels: Sentinels) -> None:
    settings = sentinels.settings | {"redis_sentinel_master": "another", "redis_max_retries": 0}
    with (
        SyncRedisKVStorage("full_docs", settings) as storage,
        pytest.raises(StorageUnavailableError, match=r'"another".*check redis_sentinel_master'),
    ):
        storage.get_by_id("a")


def test_a_delete_that_a_stalled_master_has_not_got_is_done_by_the_new_one(
    sentinels: Sentinels,
) -> None:
    settings = sentinels.settings | {"redis_durability": "replicas:1"}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({"a": 1})
        storage.index_done_callback()  # a replica has it, and that one will be the master
        stalled = sentinels.master
        stalled.pause()
        try:
            assert storage.delete_by_id("a") is True
            eventually(lambda: sentinels.master is not stalled)
        finally:
            stalled.resume()
        assert storage.get_by_id("a") is None


def test_the_sentinels_have_a_user_of_their_own() -> None:
    with Sentinels(sentinel_password=SECRET) as guarded:
        login = {"redis_sentinel_username": USER, "redis_sentinel_password": SECRET}
        with SyncRedisKVStorage("full_docs", guarded.settings | login) as storage:
            storage.upsert({"a": 1})
        for wrong in ({}, login | {"redis_sentinel_password": f"{SECRET}-wrong"}):
            with (
                SyncRedisKVStorage("full_docs", guarded.settings | wrong) as storage,
                pytest.raises(StorageAuthError, match="redis_sentinel_password") as caught,
            ):
                storage.get_by_id("a")
            assert SECRET not in str(caught.value)


def test_a_server_that_is_no_sentinel_says_so(sentinels: Sentinels) -> None:
    url = sentinels.master.url.replace("redis://", "redis+sentinel://")
    settings = {"redis_url": url, "redis_sentinel_master": NAME, "redis_max_retries": 0}
    with (
        SyncRedisKVStorage("full_docs", settings) as storage,
        pytest.raises(StorageUnavailableError, match="no sentinel"),
    ):
        storage.get_by_id("a")


def test_a_master_that_refuses_the_login_is_not_asked_again_and_again(
    sentinels: Sentinels,
) -> None:
    admin = sentinels.master.client()
    settings = sentinels.settings | {"redis_username": "ann", "redis_password": SECRET}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        for _ in range(30):
            with pytest.raises(StorageAuthError, match="redis_password") as caught:
                storage.get_by_id("a")
    assert SECRET not in str(caught.value)
    refused = admin.info("commandstats")["cmdstat_auth"]["failed_calls"]
    assert refused <= 6  # three a second


def test_reports_are_replaced_at_once_also_by_a_new_master(sentinels: Sentinels) -> None:
    settings = {**sentinels.settings, "redis_deferred_drop": True}
    with SyncRedisKVStorage("community_reports", settings) as reports:

        def insert(number: int) -> None:
            reports.drop()
            reports.upsert({"a": number, str(number): "only here"})
            reports.index_done_callback()

        insert(1)
        with sentinels.client() as client:
            assert client.info("commandstats")["cmdstat_exec"]["calls"] == 1
        sentinels.fail_over()
        until_it_passes(reports, 2)
        insert(3)
        assert sorted(reports.all_keys()) == ["3", "a"]
        assert reports.get_by_id("a") == 3
        with sentinels.client() as client:
            assert client.info("commandstats")["cmdstat_exec"]["calls"] >= 1
