"""Files and a cluster: moved, written on both sides while a primary dies, and moved back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migration.conftest import Open, WriteFile, file
from nano_graphrag_redis import migration
from nano_graphrag_redis.exceptions import StorageError
from support.cluster import RedisCluster
from support.conditions import eventually

BATCH = 60


@pytest.fixture
def cluster(server_binary: Path) -> Iterator[RedisCluster]:
    with RedisCluster(server_binary) as running:
        yield running


@pytest.fixture
def settings(cluster: RedisCluster) -> dict[str, Any]:
    return {"redis_url": cluster.url, "redis_cluster": True}


def test_files_move_to_a_cluster_and_back(
    settings: dict[str, Any], working_dir: Path, write_file: WriteFile, tmp_path: Path
) -> None:
    values = {f"{{doc}}-{number}": {"content": f"é{number}"} for number in range(500)}
    path = write_file("full_docs", dict(sorted(values.items())))
    migration.migrate(migration.plan(working_dir, settings))
    assert migration.verify(working_dir, settings).ok
    migration.export(tmp_path / "back", settings)
    assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def test_the_file_has_what_the_cluster_has_after_a_primary_died_under_dual_writing(
    cluster: RedisCluster, open_storage: Open, working_dir: Path, write_file: WriteFile
) -> None:
    write_file("full_docs", {"old": 0})
    docs = open_storage(redis_durability="ack", redis_operation_timeout=2.0)
    docs.upsert({"old": 1})
    confirmed, failed, passed_since = set(), 0, 0
    victim = cluster.primary_of("nano_graphrag:full_docs:id-0")
    for number in range(10_000):
        if number == 5:
            victim.kill()
        batch = {f"id-{each}": number for each in range(BATCH)}
        try:
            docs.upsert(batch)
        except StorageError as error:
            failed += 1
            assert error.unconfirmed_ids
            confirmed |= set(batch) - set(error.unconfirmed_ids)
            continue
        confirmed |= set(batch)
        passed_since += failed > 0
        if passed_since == 5:
            break
    assert failed, "nobody noticed that a primary was gone"
    eventually(docs.check_health)  # the map as a whole, not the slots of these ids alone
    docs.delete_by_ids(["old", "id-1"])
    on_the_cluster = dict(zip(docs.all_keys(), docs.get_by_ids(docs.all_keys()), strict=True))
    assert set(on_the_cluster) == confirmed - {"id-1"}
    docs.close()
    assert file(working_dir) == on_the_cluster
