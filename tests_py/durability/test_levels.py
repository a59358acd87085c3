"""Each level waits for what it says, and says what is missing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from durability.conftest import Open, calls, replicate
from nano_graphrag_redis import DurabilityError, StorageOperationError
from support.conditions import eventually
from support.servers import RedisServer, server_binaries


def test_nothing_is_asked_of_the_server_when_nothing_was_written(
    always: RedisServer, open_at: Open
) -> None:
    documents = open_at(always, "fsync")
    documents.index_done_callback()
    documents.get_by_id("doc-1")
    documents.index_done_callback()
    assert calls(always, "set") == 0
    documents.upsert({"doc-1": {}})
    documents.index_done_callback()
    markers = calls(always, "set")
    documents.get_by_id("doc-1")
    documents.index_done_callback()
    assert (calls(always, "set"), markers) == (2, 2)  # the value and one marker


@pytest.mark.parametrize("change", ["delete_by_ids", "drop"])
def test_deletions_are_waited_for_too(always: RedisServer, open_at: Open, change: str) -> None:
    documents = open_at(always, "fsync")
    documents.upsert({"doc-1": {}, "doc-2": {}})
    documents.index_done_callback()
    documents.drop() if change == "drop" else documents.delete_by_ids(["doc-1"])
    before = calls(always, "set")
    documents.index_done_callback()
    assert calls(always, "set") == before + 1


def test_ack_sends_nothing(always: RedisServer, open_at: Open) -> None:
    documents = open_at(always, "ack")
    documents.upsert({"doc-1": {}})
    documents.index_done_callback()
    assert calls(always, "set") == 1


def test_the_marker_lies_beside_the_namespaces(always: RedisServer, open_at: Open) -> None:
    documents = open_at(always, "fsync", redis_workspace="w")
    documents.upsert({"doc-1": {}})
    documents.index_done_callback()
    keys = set(always.client().keys())
    assert keys == {b"nano_graphrag@w:full_docs:doc-1", b"nano_graphrag@w:@durability"}
    assert documents.all_keys() == ["doc-1"]


def test_too_few_replicas_raise_with_what_was_wanted_and_what_there_is(
    server_binary: Path, open_at: Open
) -> None:
    with RedisServer(server_binary) as primary, RedisServer(server_binary) as replica:
        replicate(primary, replica)
        one = open_at(primary, "replicas:1")
        one.upsert({"doc-1": {}})
        one.index_done_callback()
        assert replica.client().get("nano_graphrag:full_docs:doc-1") == b"{}"
        two = open_at(primary, "replicas:2", redis_durability_timeout=0.2)
        two.upsert({"doc-2": {}})
        with pytest.raises(
            DurabilityError, match="replicas:2 is not met, only replicas:1"
        ) as error:
            two.index_done_callback()
        assert (error.value.wanted, error.value.achieved) == ("replicas:2", "replicas:1")
        assert error.value.unconfirmed_ids == ()
        assert error.value.namespace == "full_docs"
        with pytest.raises(DurabilityError):  # until it has passed
            two.index_done_callback()


def test_a_paused_replica_does_not_count(server_binary: Path, open_at: Open) -> None:
    with RedisServer(server_binary) as primary, RedisServer(server_binary) as replica:
        replicate(primary, replica)
        documents = open_at(primary, "replicas:1", redis_durability_timeout=0.2)
        replica.pause()
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError, match="only ack"):
            documents.index_done_callback()
        replica.resume()

        def passes() -> bool:
            try:
                documents.index_done_callback()
            except DurabilityError:
                return False
            return True

        eventually(passes)
        assert replica.client().get("nano_graphrag:full_docs:doc-1") == b"{}"


def test_a_replica_on_whose_disk_it_must_be(valkey: Path, open_at: Open) -> None:
    on: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always"}
    with RedisServer(valkey, **on) as primary, RedisServer(valkey, appendonly="no") as replica:
        replicate(primary, replica)
        documents = open_at(primary, "fsync+replicas:1", redis_durability_timeout=0.5)
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError) as error:
            documents.index_done_callback()
        assert error.value.achieved == "fsync"
        replica.client().config_set("appendonly", "yes")
        replica.client().config_set("appendfsync", "always")
        eventually(lambda: replica.client().info("persistence")["aof_rewrite_in_progress"] == 0)
        patient = open_at(primary, "fsync+replicas:1", redis_durability_timeout=20)
        patient.upsert({"doc-1": {}})
        patient.index_done_callback()


def test_a_server_without_waitaof_is_refused_for_its_replicas_disks(open_at: Open) -> None:
    redis = server_binaries()["redis"]
    with RedisServer(redis, appendonly="yes", appendfsync="always") as server:
        documents = open_at(server, "fsync+replicas:1")
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError, match="has no WAITAOF"):
            documents.index_done_callback()


def test_a_file_that_is_off_is_told(server_binary: Path, open_at: Open) -> None:
    with RedisServer(server_binary, appendonly="no") as server:
        documents = open_at(server, "fsync")
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError, match="CONFIG SET appendonly yes"):
            documents.index_done_callback()


def test_a_file_that_is_synced_when_the_system_likes_is_told(
    server_binary: Path, open_at: Open
) -> None:
    with RedisServer(server_binary, appendonly="yes", appendfsync="no") as server:
        documents = open_at(server, "fsync", redis_durability_timeout=0.2)
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError, match="appendfsync"):
            documents.index_done_callback()


def test_a_user_who_may_not_ask_is_told_what_to_grant(server_binary: Path, open_at: Open) -> None:
    user = "user ann on nopass ~* +@all -config -info"
    with RedisServer(server_binary, config=(user,), appendfsync="everysec") as server:
        documents = open_at(server, "fsync", redis_username="ann", redis_password="any")
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError, match=r"grant (INFO|CONFIG)"):
            documents.index_done_callback()


# Without CONFIG and WAITAOF nothing tells a file that is synced from one that never is.
def test_a_file_that_is_never_synced_is_not_taken_for_one_that_is(
    server_binary: Path, open_at: Open
) -> None:
    user = "user ann on nopass ~* +@all -config"
    with RedisServer(server_binary, config=(user,), appendfsync="no") as server:
        documents = open_at(
            server,
            "fsync",
            redis_username="ann",
            redis_password="any",
            redis_durability_timeout=1.5,
        )
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError, match="only ack"):
            documents.index_done_callback()


def test_a_marker_that_may_not_be_written_is_no_silence(always: RedisServer, open_at: Open) -> None:
    always.client().acl_setuser(
        "ann", enabled=True, nopass=True, keys=["nano_graphrag:full_docs:*"], commands=["+@all"]
    )
    documents = open_at(always, "fsync", redis_username="ann", redis_password="any")
    documents.upsert({"doc-1": {}})
    with pytest.raises(StorageOperationError, match="NOPERM"):
        documents.index_done_callback()


def test_a_snapshot_begins_after_the_writes_even_if_one_is_under_way(
    server_binary: Path, open_at: Open
) -> None:
    with RedisServer(
        server_binary, appendonly="no", rdb_key_save_delay="20000"
    ) as server:  # microseconds
        client = server.client()
        for number in range(10):
            client.set(f"ballast-{number}", b"x")
        documents = open_at(server, "snapshot", redis_durability_timeout=20)
        client.bgsave()
        documents.upsert({"doc-1": {"late": True}})
        documents.index_done_callback()
        assert client.info("persistence")["rdb_bgsave_in_progress"] == 0
        server.restart()
        assert documents.get_by_id("doc-1") == {"late": True}


def test_a_snapshot_that_takes_too_long_is_told(server_binary: Path, open_at: Open) -> None:
    with RedisServer(server_binary, rdb_key_save_delay="1000000") as server:
        documents = open_at(server, "snapshot", redis_durability_timeout=0.2)
        documents.upsert({"doc-1": {}})
        with pytest.raises(DurabilityError, match="no snapshot has ended"):
            documents.index_done_callback()


def test_a_snapshot_that_fails_is_told(server_binary: Path, open_at: Open) -> None:
    with RedisServer(server_binary, stop_writes_on_bgsave_error="no") as server:
        documents = open_at(server, "snapshot")
        documents.upsert({"doc-1": {}})
        (server.directory / "dump.rdb").mkdir()  # nothing can be renamed to it
        (server.directory / "dump.rdb" / "in the way").touch()
        with pytest.raises(DurabilityError, match="the snapshot failed"):
            documents.index_done_callback()


def test_callers_who_arrive_together_share_a_barrier(valkey: Path, open_at: Open) -> None:
    with RedisServer(valkey, appendonly="yes", appendfsync="everysec") as server:
        documents = open_at(server, "fsync")
        passed = []

        def write_and_wait(number: int) -> None:
            documents.upsert({f"doc-{number}": {}})
            documents.index_done_callback()
            passed.append(number)

        threads = [threading.Thread(target=write_and_wait, args=(n,)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(passed) == 40
        assert calls(server, "waitaof") < 10


def test_what_is_remembered_is_bounded_though_nobody_asks_for_a_barrier(
    valkey: Path, open_at: Open
) -> None:
    with RedisServer(valkey, appendfsync="always") as server:
        documents = open_at(server, "fsync")
        documents.upsert({str(number): 0 for number in range(70_000)})
        eventually(lambda: server.client().exists("nano_graphrag:@durability") == 1)
