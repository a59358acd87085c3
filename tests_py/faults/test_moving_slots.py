"""Walks over all keys while slots of a cluster are moved, key by key, as redis-cli moves them."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from nano_graphrag_redis import SyncRedisKVStorage, migration
from nano_graphrag_redis.acl import acl_rules
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.doctor import Severity
from nano_graphrag_redis.doctor.checks.server import rights
from nano_graphrag_redis.doctor.target import Target
from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.cluster import RedisCluster
from support.conditions import eventually
from support.guard import Guard
from support.servers import RedisServer

from .rows import Row

NAMESPACE = "full_docs"
PREFIX = "nano_graphrag:full_docs:"
PATTERN = f"{PREFIX}*".encode()
SLOT = key_slot(b"slot")


@pytest.fixture(scope="module")
def cluster(server_binary: Path) -> Iterator[RedisCluster]:
    with RedisCluster(server_binary, replicas=False) as running:
        yield running


@pytest.fixture
def settings(cluster: RedisCluster) -> dict[str, Any]:
    cluster.client().flushall()
    return {"redis_url": cluster.url, "redis_cluster": True}


@pytest.fixture
def values(row: Row) -> dict[str, Any]:
    """Ids of one slot, and others everywhere."""
    together, apart = row.pick(quick=(3_000, 9_000), full=(20_000, 150_000))
    there = {f"{{slot}}{number}": {"n": number} for number in range(together)}
    return there | {f"id-{number}": {"n": number} for number in range(apart)}


@pytest.fixture(params=["to the first", "to the last"])
def ends(request: pytest.FixtureRequest, cluster: RedisCluster) -> tuple[RedisServer, RedisServer]:
    """Where the slot is, and where it goes: to a server that a walk comes to before, or after."""
    first, _, last = cluster.servers[:3]
    source, target = (last, first) if request.param == "to the first" else (first, last)
    if cluster.owner_of(SLOT) is not source:
        cluster.move(SLOT, cluster.owner_of(SLOT), source)
        eventually(lambda: cluster.agrees({SLOT: source}))
    return source, target


class Mover(Guard):
    """Moves a slot a few keys at a time, in a thread, until it has arrived or is not to go on."""

    def __init__(
        self, cluster: RedisCluster, source: RedisServer, target: RedisServer, count: int
    ) -> None:
        self._cluster, self._count = cluster, count
        self._source, self._target = source, target
        self.begun, self._ended, self._stop = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._move)

    @property
    def is_under_way(self) -> bool:
        return not self._ended.is_set()

    def _move(self) -> None:
        try:
            self._cluster.begin_move(SLOT, self._source, self._target)
            while self._cluster.move_some(SLOT, self._source, self._target, self._count):
                self.begun.set()
                self._stop.wait(0.001)
            self._cluster.end_move(SLOT, self._target)
        finally:
            self.begun.set()
            self._ended.set()

    def start(self) -> None:
        self._thread.start()
        self.begun.wait()

    def close(self) -> None:
        self._thread.join()
        owners = {SLOT: self._target}
        eventually(lambda: self._cluster.agrees(owners))


@contextmanager
def filled(settings: dict[str, Any], values: dict[str, Any]) -> Iterator[SyncRedisKVStorage]:
    with SyncRedisKVStorage(NAMESPACE, settings) as storage:
        storage.upsert(values)
        yield storage


Ends = tuple[RedisServer, RedisServer]


# Keys went from a server that was yet to be scanned to one that had been, and nothing said so.
@pytest.mark.row(38)
def test_every_id_is_listed_while_its_slot_moves(
    row: Row, cluster: RedisCluster, settings: dict[str, Any], values: dict[str, Any], ends: Ends
) -> None:
    missed, walks = [], 0
    with filled(settings, values) as storage, Mover(cluster, *ends, count=5) as mover:
        while mover.is_under_way:
            missed.append(len(values.keys() - set(storage.all_keys())))
            walks += 1
        assert set(storage.all_keys()) == values.keys()
    row.saw("walks while a slot moved", walks)
    row.none("ids missed by all_keys", max(missed), of=len(values))


@pytest.mark.row(38)
def test_a_drop_leaves_nothing_of_a_slot_that_moves(
    row: Row, cluster: RedisCluster, settings: dict[str, Any], values: dict[str, Any], ends: Ends
) -> None:
    with filled(settings, values) as storage:
        with Mover(cluster, *ends, count=5) as mover:
            storage.drop()
            assert mover is not None
        left = len(cluster.client().keys(PATTERN))
    row.none("ids left behind by drop", left, of=len(values))


@pytest.mark.row(38)
def test_files_are_whole_that_are_made_or_compared_while_a_slot_moves(
    row: Row,
    cluster: RedisCluster,
    settings: dict[str, Any],
    *,
    values: dict[str, Any],
    ends: Ends,
    tmp_path: Path,
) -> None:
    path = tmp_path / f"kv_store_{NAMESPACE}.json"
    path.write_text(json.dumps(values))
    rounds = missed = differences = 0
    with filled(settings, dict(list(values.items())[::2])), Mover(cluster, *ends, count=5) as mover:
        migrated = migration.migrate(migration.plan(tmp_path, settings, namespaces=[NAMESPACE]))
        assert migrated.ok
        while mover.is_under_way or not rounds:
            verified = migration.verify(tmp_path, settings).namespaces[0]
            differences += verified.missing_count + verified.extra_count + verified.differing_count
            migration.export(tmp_path, settings, namespaces=[NAMESPACE])
            missed += len(values.keys() - json.loads(path.read_bytes()).keys())
            rounds += 1
    row.saw("files exported and compared while a slot moved", rounds)
    row.none("ids missing in an exported file", missed, of=rounds * len(values))
    row.none("differences seen by verify", differences, of=rounds * len(values))


def pages(storage: SyncRedisKVStorage, between: Callable[[int], None]) -> tuple[set[str], int]:
    """What a walk meets, page by page, and how many pages it took; `between` has its way first."""
    core = storage._core
    assert core is not None
    ids: set[str] = set()
    cursor = count = 0
    while True:
        between(count)
        cursor, keys = core.scan(cursor, PATTERN, 1_000_000)
        ids.update(key.decode().removeprefix(PREFIX) for key in keys)
        count += 1
        if not cursor:
            return ids, count


# The same, a step at a time: what moves between two pages is met, whenever it moves.
@pytest.mark.row(38)
def test_keys_that_move_between_any_two_pages_of_a_walk_are_met(
    row: Row, cluster: RedisCluster, settings: dict[str, Any], ends: Ends
) -> None:
    source, target = ends
    missed = 0
    # When a move begins, when five of ten keys go, when it ends; before which page.
    times = [(a, b, c) for a in range(4) for b in range(a, 4) for c in range(b, 5)]
    owned = cluster.slots_of(source)
    # Each has a slot of its own: one that is sent on before all have heard may lose its owner.
    tags = (tag for tag in map(str, itertools.count()) if key_slot(tag.encode()) in owned)
    with filled(settings, {"a": 1, "b": 2, "c": 3}) as storage:
        for (begin, go, end), tag in zip(times, tags, strict=False):
            values = {f"{{{tag}}}{number}": number for number in range(10)}
            storage.upsert(values)
            slot = key_slot(tag.encode())

            def move(page: int) -> None:
                if page == begin:  # noqa: B023 - called before it returns
                    cluster.begin_move(slot, source, target)  # noqa: B023
                if page == go:  # noqa: B023
                    cluster.move_some(slot, source, target, 5)  # noqa: B023
                if page == end:  # noqa: B023
                    while cluster.move_some(slot, source, target, 5):  # noqa: B023
                        pass
                    cluster.end_move(slot, target)  # noqa: B023

            ids, count = pages(storage, move)
            missed += len(values.keys() - ids)
            for later in range(count, 5):
                move(later)
            eventually(lambda: cluster.agrees({slot: target}))  # noqa: B023
    row.none("ids missed by walks of single pages", missed, of=len(times) * 10)


@pytest.mark.row(38)
def test_a_slot_that_never_stays_is_an_error_and_not_a_list_without_its_ids(
    row: Row, cluster: RedisCluster, settings: dict[str, Any], tmp_path: Path
) -> None:
    source = cluster.owner_of(SLOT)
    others = [server for server in cluster.servers[:3] if server is not source]
    ways = itertools.cycle([*others, None])

    def move(_: object) -> None:
        for server in cluster.servers[:3]:
            cluster.admin(server).cluster("SETSLOT", SLOT, "STABLE")
        if target := next(ways):
            cluster.begin_move(SLOT, source, target)

    path = tmp_path / f"kv_store_{NAMESPACE}.json"
    path.write_text('{"an older": "file"}')
    try:
        with filled(settings, {"{slot}": 1}) as storage:
            with pytest.raises(StorageUnavailableError, match="slots were moved again each time"):
                pages(storage, move)
            with pytest.raises(StorageUnavailableError, match="slots were moved again each time"):
                migration.export(tmp_path, settings, namespaces=[NAMESPACE], progress=move)
    finally:
        while next(ways):
            pass
        for server in cluster.servers[:3]:
            cluster.admin(server).cluster("SETSLOT", SLOT, "STABLE")
    assert path.read_text() == '{"an older": "file"}'
    row.none("walks that ended without an error", 0, of=2)


# A walk went on for as long as any slot moved.
@pytest.mark.row(38)
def test_a_walk_does_not_wait_for_a_reshard_to_end(
    row: Row, cluster: RedisCluster, settings: dict[str, Any]
) -> None:
    values = {f"id-{number}": number for number in range(row.pick(quick=9_000, full=150_000))}
    source, _, target = cluster.servers[:3]
    slots = sorted(cluster.slots_of(source) - {SLOT})
    is_over, begun = threading.Event(), threading.Event()
    moved: list[int] = []

    def reshard() -> None:
        for slot in slots:
            if is_over.is_set():
                return
            cluster.move(slot, source, target)
            moved.append(slot)
            begun.set()

    thread = threading.Thread(target=reshard)
    walks = missed = 0
    with filled(settings, values) as storage:
        thread.start()
        begun.wait()
        try:
            for _ in range(row.pick(quick=5, full=20)):
                missed += len(values.keys() - set(storage.all_keys()))
                walks += 1
                assert thread.is_alive(), "the reshard was over: this shows nothing"
        finally:
            is_over.set()
            thread.join()
        owners = dict.fromkeys(moved, target)
        eventually(lambda: cluster.agrees(owners))
    row.saw("slots moved during walks that did not wait", len(moved))
    row.none("ids missed during a reshard", missed, of=walks * len(values))


# Without CLUSTER NODES nobody says that a slot moves: the walk takes two passes, and says so once.
@pytest.mark.row(38)
def test_a_user_who_may_not_ask_what_moves_misses_nothing_either(
    row: Row,
    cluster: RedisCluster,
    settings: dict[str, Any],
    *,
    values: dict[str, Any],
    ends: Ends,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = [r for r in acl_rules(RedisConfig(**settings), server=(7, 0)) if "nodes" not in r]
    for server in cluster.servers:
        user = ["graph", "reset", "on", ">secret", *rules]
        cluster.admin(server).execute_command("ACL", "SETUSER", *user)
    missed, walks = [], 0
    own = settings | {"redis_username": "graph", "redis_password": "secret"}
    with (
        caplog.at_level(logging.WARNING, "nano_graphrag_redis"),
        filled(own, values) as storage,
        Mover(cluster, *ends, count=5) as mover,
    ):
        while mover.is_under_way:
            missed.append(len(values.keys() - set(storage.all_keys())))
            walks += 1
    said = [r for r in caplog.records if "CLUSTER NODES is refused" in r.getMessage()]
    assert len(said) == 1
    with Target(RedisConfig(**own)) as target:
        (finding,) = rights(target)
    assert finding.severity is Severity.WARNING
    assert "may not call cluster|nodes" in finding.title
    row.none("ids missed without CLUSTER NODES", max(missed), of=len(values))
