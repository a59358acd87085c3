"""A server that crashes, or whose machine loses power, keeps what was promised to be kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import DurabilityError, StorageUnavailableError, SyncRedisKVStorage
from support.cluster import RedisCluster
from support.conditions import eventually
from support.power import Disk
from support.servers import RedisServer, server_binaries

from .rows import Row

WRITERS = 16
SETTINGS = {"redis_max_retries": 100, "redis_breaker_failures": 1000}


class Writer(threading.Thread):
    """Writes one id after another, each once, and asks for a barrier every few of them.

    Attributes:
        kept: The ids it may count on.
        times: When each write was acknowledged.
        told_lost: Ids that it was told are lost; it writes them again.
    """

    def __init__(self, storage: SyncRedisKVStorage, name: str, *, every: int, pause: float) -> None:
        super().__init__(name=name)
        self.storage, self.every, self.pause = storage, every, pause
        self.kept: set[str] = set()
        self.times: dict[str, float] = {}
        self.told_lost = 0
        self.error: BaseException | None = None
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()
        self.join()
        if self.error is not None:
            raise self.error

    def first_after(self, moment: float) -> float:
        """When the first write since then was acknowledged."""
        return min(at for at in list(self.times.values()) if at > moment)

    def run(self) -> None:
        try:
            written: set[str] = set()
            while not self._ended.is_set():
                time.sleep(self.pause)
                id = f"{self.name}-{len(self.times)}"
                if self._write(id):
                    written.add(id)
                if len(written) >= self.every and self._barrier():
                    self.kept |= written
                    written.clear()
        except BaseException as error:  # noqa: BLE001 - raised by `end`
            self.error = error

    def _write(self, id: str) -> bool:
        with suppress(StorageUnavailableError):
            self.storage.upsert({id: id})
            self.times[id] = time.monotonic()
            return True
        return False

    def _barrier(self) -> bool:
        try:
            self.storage.index_done_callback()
        except DurabilityError as error:
            mine = [id for id in error.unconfirmed_ids if id.startswith(f"{self.name}-")]
            self.told_lost += len(mine)
            for id in mine:
                self._write(id)
            return False
        except StorageUnavailableError:
            return False
        return True


@contextmanager
def writers(
    server: RedisServer | RedisCluster,
    level: str,
    count: int = WRITERS,
    *,
    every: int = 1,
    pause: float = 0.002,
    **settings: Any,
) -> Iterator[list[Writer]]:
    """So many writers over one storage, each pausing for so many seconds between two writes."""
    config = {"redis_url": server.url, "redis_durability": level, **SETTINGS, **settings}
    with SyncRedisKVStorage("full_docs", config) as storage:
        running = [Writer(storage, f"{level}-{n}", every=every, pause=pause) for n in range(count)]
        for writer in running:
            writer.start()
        try:
            yield running
        finally:
            for writer in running:
                writer.end()


def until_each_has_written(running: list[Writer], count: int = 1) -> None:
    """Until each has had so many more writes acknowledged."""
    before = [len(writer.times) for writer in running]
    eventually(lambda: all(len(w.times) >= n + count for w, n in zip(running, before, strict=True)))


def until_so_many_have_passed(running: list[Writer], count: int) -> None:
    """Until so many of them have passed a barrier with something new."""
    before = [len(writer.kept) for writer in running]
    eventually(lambda: sum(len(w.kept) > n for w, n in zip(running, before, strict=True)) >= count)


def missing(server: RedisServer | RedisCluster, ids: set[str]) -> set[str]:
    """Those of the ids that the server does not have."""
    client: Any = server.client()
    if isinstance(server, RedisCluster):
        return {id for id in ids if not client.exists(f"nano_graphrag:full_docs:{id}")}
    listed = sorted(ids)
    values = client.mget([f"nano_graphrag:full_docs:{id}" for id in listed]) if listed else []
    return {id for id, value in zip(listed, values, strict=True) if value is None}


@pytest.mark.row(3)
def test_acknowledged_writes_outlive_kills_of_the_server(row: Row) -> None:
    kills = row.pick(quick=3, full=50)
    resumed: list[float] = []
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        with writers(server, "ack") as running:
            for _ in range(kills):
                until_each_has_written(running, 20)
                server.restart()
                began = time.monotonic()
                until_each_has_written(running)
                resumed += [writer.first_after(began) - began for writer in running]
        kept = {id for writer in running for id in writer.times}
        row.none(
            "acknowledged writes lost, appendfsync always", len(missing(server, kept)), of=len(kept)
        )
    resumed.sort()
    row.saw("kills", kills)
    row.within("a writer writes again, p99", resumed[int(len(resumed) * 0.99) - 1], 0.5)


@pytest.mark.row(3)
def test_what_an_fsync_barrier_has_passed_outlives_kills_of_the_server(row: Row) -> None:
    kills = row.pick(quick=2, full=50)
    with RedisServer(appendonly="yes", appendfsync="everysec") as server:
        with writers(server, "fsync", every=5) as running, writers(server, "ack", 4) as careless:
            for _ in range(kills):
                until_so_many_have_passed(running, WRITERS // 2)  # the others wait for one
                server.restart()
        kept = {id for writer in running for id in writer.kept}
        row.none(
            "passed an fsync barrier and lost, everysec", len(missing(server, kept)), of=len(kept)
        )
        acknowledged = {id for writer in careless for id in writer.times}
        row.saw(
            "acknowledged and lost, everysec",
            f"{len(missing(server, acknowledged)):,} of {len(acknowledged):,}",
        )


@pytest.mark.row(4)
@pytest.mark.parametrize("kind", server_binaries())
def test_a_power_cut_takes_nothing_that_an_fsync_barrier_has_passed(
    row: Row, kind: str, tmp_path: Path
) -> None:
    cuts = row.pick(quick=2, full=20)
    disk = Disk(tmp_path, server_binaries()[kind], sync_time=0.02)
    oldest, lost_bytes, gone = 0.0, 0, 0
    with disk.server(appendfsync="everysec") as server:
        with writers(server, "fsync", every=5) as running, writers(server, "ack", 4) as careless:
            for _ in range(cuts):
                began = time.monotonic()
                until_so_many_have_passed(running, WRITERS // 2)  # the others wait for one
                time.sleep(0.5)  # half of what lies between two syncs
                lost_bytes += disk.cut(server)
                cut_at = time.monotonic()
                server.start()
                times = [entry for one in careless for entry in list(one.times.items())]
                # Of this life of the server: what it had lost in the one before is counted.
                acknowledged = {id: at for id, at in times if began <= at <= cut_at}
                lost = missing(server, set(acknowledged))
                gone += len(lost)
                oldest = max([oldest, *(cut_at - acknowledged[id] for id in lost)])
        kept = {id for writer in running for id in writer.kept}
        row.none("passed an fsync barrier and lost", len(missing(server, kept)), of=len(kept))
    row.saw("bytes cut off", lost_bytes)
    row.saw("acknowledged and lost, ack on everysec", gone)
    row.saw("lost writes that their writers were told of", sum(w.told_lost for w in running))
    row.within("age of the oldest lost write, ack on everysec", oldest, 2.0)
    assert lost_bytes > 0


@pytest.mark.row(7)
def test_what_a_lagging_replica_lacks_when_it_takes_over_was_not_confirmed(row: Row) -> None:
    kills = row.pick(quick=1, full=3)
    told = 0
    with RedisCluster() as cluster:
        cluster_settings: dict[str, Any] = {
            "redis_cluster": True,
            "redis_durability_timeout": 0.3,
            "redis_socket_timeout": 1.0,
        }
        with writers(cluster, "replicas:1", every=3, pause=0.005, **cluster_settings) as running:
            for _ in range(kills):
                eventually(lambda: all(len(writer.kept) > 3 for writer in running))
                primary = cluster.primaries()[0]
                replica = cluster.replica_of(primary)
                replica.pause()
                # What is in its socket is as good as received: from here on it gets nothing.
                cluster.admin(primary).client_kill_filter(_type="replica")
                until_each_has_written(running, 4)  # so far it lags behind
                primary.kill()
                replica.resume()
                eventually(lambda replica=replica: replica in cluster.primaries())
                primary.start()
                eventually(cluster.is_whole)
            until_so_many_have_passed(running, WRITERS)
        kept = {id for writer in running for id in writer.kept}
        told = sum(writer.told_lost for writer in running)
        row.none("confirmed at replicas:1 and lost", len(missing(cluster, kept)), of=len(kept))
    row.saw("lost writes that their writers were told of", told)
    assert told > 0, "the replica lacked nothing: the test shows nothing"
