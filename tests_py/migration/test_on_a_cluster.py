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
    confirmed: set[str] = set()
    outcomes: list[bool] = []

    def write() -> bool:
        """Writes all ids anew; whether that was confirmed after some was not."""
        batch = {f"id-{each}": len(outcomes) for each in range(BATCH)}
        try:
            docs.upsert(batch)
        except StorageError as error:
            assert error.unconfirmed_ids
            confirmed.update(set(batch) - set(error.unconfirmed_ids))
            outcomes.append(False)
            return False
        confirmed.update(batch)
        outcomes.append(True)
        return not all(outcomes)

    write()
    cluster.primary_of("nano_graphrag:full_docs:id-0").kill()
    eventually(write)
    eventually(docs.check_health)  # the map as a whole, not the slots of these ids alone
    docs.delete_by_ids(["old", "id-1"])
    ids = docs.all_keys()
    assert set(ids) == confirmed - {"id-1"}
    on_the_cluster = dict(zip(ids, docs.get_by_ids(ids), strict=True))
    docs.close()
    assert file(working_dir) == on_the_cluster
