"""Work that is done in pieces, around every size at which it is cut: as if done id by id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from nano_graphrag_redis import RedisConfig, RedisKVStorage, SyncRedisKVStorage, migration
from nano_graphrag_redis.cli.copy import copy
from nano_graphrag_redis.cli.drop import drop
from nano_graphrag_redis.cli.output import Output
from nano_graphrag_redis.cli.prune import prune
from nano_graphrag_redis.cli.session import Session
from nano_graphrag_redis.doctor.keyspace_scan import take
from nano_graphrag_redis.doctor.target import Target
from support.cluster import ClusterClient, RedisCluster
from support.pieces import limits
from support.servers import RedisServer
from support.stores import RedisKind, redis_store

from .rows import Row

ITEMS, BYTES = limits()

SMALL = 1 << 20
"""Bytes up to which a quick run tries a limit."""

MUCH = 600
"""Ids from which a quick run tries one of the settings, not both."""

ALONE: dict[str, Any] = {}
BESIDE = {"redis_registry": True, "redis_dual_write": True, "redis_near_cache_mb": 128}
"""What has pieces of its own beside the server's values."""

NAMESPACE = "full_docs"
PREFIX = "nano_graphrag:full_docs:"
DEADLINE = 60.0
"""Seconds: whoever waits for an answer to no question fails with a timeout."""


class Where:
    """A server or a cluster, emptied for each case."""

    def __init__(self, client: redis.Redis | ClusterClient, settings: dict[str, Any]) -> None:
        self.client = client
        self.settings = settings | {"redis_operation_timeout": DEADLINE}

    def stored(self) -> dict[str, Any]:
        """What lies there, as another client sees it."""
        keys: Any = list(self.client.scan_iter(f"{PREFIX}*", count=5000))
        many = getattr(self.client, "mget_nonatomic", self.client.mget)
        pairs: Any = zip(keys, many(keys) if keys else [], strict=True)
        return {key.decode().removeprefix(PREFIX): json.loads(value) for key, value in pairs}


@pytest.fixture(scope="module")
def running_cluster(server_binary: Path) -> Iterator[RedisCluster]:
    with RedisCluster(server_binary, replicas=False) as running:
        yield running


@pytest.fixture(params=["standalone", "cluster"])
def where(request: pytest.FixtureRequest) -> Where:
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("running_cluster")
        found = Where(cluster.client(), {"redis_url": cluster.url, "redis_cluster": True})
    else:
        server: RedisServer = request.getfixturevalue("server")
        found = Where(server.client(), {"redis_url": server.url})
    found.client.flushall()
    return found


def around(sizes: Iterable[int]) -> list[int]:
    """None, one, and each size, one less, one more, and twice as many."""
    near = {each for size in sizes for each in (size - 1, size, size + 1, 2 * size)}
    return sorted({0, 1} | near)


def numbered(count: int) -> dict[str, Any]:
    return {f"id-{number}": {"n": number, "odd": number % 2} for number in range(count)}


def of_bytes(limit: int) -> Iterator[dict[str, Any]]:
    """Documents whose JSON comes to a limit, one byte less, and more: one alone and several."""
    for size in (limit - 1, limit, limit + 1):
        yield {"whole": text(size)}
        yield {"half": text(size // 2), "other": text(size - size // 2)}
        yield {"half": text(size // 2), "other": text(size - size // 2), "more": text(10)}
        yield {"first": text(10), "second": text(10), "crosses": text(size)}


def text(size: int) -> str:
    """A value whose JSON has so many bytes."""
    return "x" * (size - 2)


def same(what: str, seen: Any, expected: Any) -> None:
    if seen != expected:  # not left to pytest, which would show thousands of ids
        pytest.fail(f"{what}: {str(seen)[:300]} instead of {str(expected)[:300]}")


def everything(
    where: Where, values: dict[str, Any], directory: Path, *, kind: RedisKind, beside: bool
) -> int:
    """Every operation on a namespace of these values; how many results were compared."""
    settings = where.settings | (BESIDE if beside else ALONE)
    own = settings | {"working_dir": str(directory)} if beside else settings
    ids, count = list(values), len(values)
    directory.mkdir(parents=True)
    with redis_store(kind, NAMESPACE, own) as store:
        store.upsert(values)
        same("upsert", where.stored(), values)
        same("get_by_ids", store.get_by_ids(ids), list(values.values()))
        asked = [*ids, "none", *ids[:3]]
        same("get_by_ids", store.get_by_ids(asked), [values.get(id) for id in asked])
        if not any(isinstance(value, str) for value in values.values()):
            chosen = [{"n": value["n"]} for value in values.values()]
            same("fields", store.get_by_ids(ids, {"n"}), chosen)
        same("filter_keys", store.filter_keys(ids), set())
        absent = {f"no-{id}" for id in ids}
        same("filter_keys", store.filter_keys([*ids, *absent]), absent)
        same("all_keys", sorted(store.all_keys()), sorted(ids))
        same("get_stats", store.get_stats()["key_count"], count)
    files = files_are_moved(where, values, settings, directory)
    with redis_store(kind, NAMESPACE, own) as store:
        same("delete_by_ids", store.delete_by_ids(ids[::2]), len(ids[::2]))
        left = {id: values[id] for id in ids[1::2]}
        same("delete_by_ids", where.stored(), left)
        same("delete_by_ids", store.delete_by_ids([*ids, *absent]), len(left))
        store.upsert(values)
        store.drop()
        same("drop", (where.stored(), store.all_keys()), ({}, []))
    return 14 + files


def files_are_moved(
    where: Where, values: dict[str, Any], settings: dict[str, Any], directory: Path
) -> int:
    """The same of all that works on files and on the whole keyspace."""
    count = len(values)
    if settings.get("redis_dual_write"):
        settings = settings | {"redis_dual_write": False}
        kept = migration.fold(directory, settings)
        files = [file.path for file in kept.files] or [directory / f"kv_store_{NAMESPACE}.json"]
        if count:
            same("fold", json.loads(files[0].read_bytes()), values)
    exported = migration.export(directory / "exported", settings, namespaces=[NAMESPACE])
    path = exported.files[0].path
    same("export", (exported.files[0].ids, json.loads(path.read_bytes())), (count, values))
    assert migration.verify(path.parent, settings).ok
    with SyncRedisKVStorage(NAMESPACE, settings) as store:
        with Target(RedisConfig.from_global_config(settings)) as target:
            keyspace = take(target)
        same("survey", (keyspace.counts[NAMESPACE], dict(keyspace.corrupt)), (count, {}))
        blocking = store._core
        assert blocking is not None
        if settings.get("redis_registry"):
            same("registry_drift", blocking.registry_drift(), (0, 0))
            same("repair", blocking.repair(), (0, 0))
        keys = [f"{PREFIX}{id}".encode() for id in values]
        same("look", blocking.look(keys), [("string", None)] * count)
        same("persist", blocking.persist(values), 0)
        store.drop()
    # What is there is half of it.
    half = dict(list(values.items())[::2])
    with SyncRedisKVStorage(NAMESPACE, settings) as store:
        store.upsert(half)
    for dry_run in (True, False):
        plan = migration.plan(path.parent, settings)
        told = migration.migrate(plan, dry_run=dry_run).namespaces[0]
        wanted = (count, count - len(half), 0, len(half), 0)
        found = (told.ids, told.written, told.replaced, told.unchanged, told.refused_count)
        same("migrate", found, wanted)
        same("migrate", where.stored(), half if dry_run else values)
    same("scan", asyncio.run(scanned(settings)), {f"{PREFIX}{id}".encode() for id in values})
    return 13


async def scanned(settings: dict[str, Any]) -> set[bytes]:
    """The keys of a namespace, by the facade that the factory host walks with."""
    async with RedisKVStorage(NAMESPACE, settings) as storage:
        cursor, keys = 0, set()
        while True:
            cursor, page = await storage._redis_client.scan(cursor, f"{PREFIX}*", 1000)
            keys.update(page)
            if not cursor:
                return keys


def test_the_limits_are_found_in_the_sources() -> None:
    items = {"src/store/batch_sizes.rs: BATCH_ITEMS", "src/store/batch_sizes.rs: KEY_BATCH"}
    assert items <= ITEMS.keys()
    in_bytes = {"src/store/batch_sizes.rs: BATCH_BYTES", "src/migration/steps.rs: STEP_BYTES"}
    assert in_bytes <= BYTES.keys()


# A piece without an id was sent, and its answer waited for until the deadline.
@pytest.mark.row(37)
def test_any_number_of_ids_is_handled_as_one_by_one(row: Row, where: Where, tmp_path: Path) -> None:
    compared = 0
    counts = around(ITEMS.values())
    if not row.full:
        counts = [
            count for count in counts if count <= 2 * ITEMS["src/store/batch_sizes.rs: KEY_BATCH"]
        ]
    for place, count in enumerate(counts):
        both = row.full or count < MUCH
        for beside in (False, True) if both else (place % 2 == 0,):
            for kind in ("sync", "async") if row.full else ("async" if place % 2 else "sync",):
                where.client.flushall()
                directory = tmp_path / f"{count}-{beside}-{kind}"
                compared += everything(
                    where,
                    numbered(count),
                    directory,
                    kind=kind,
                    beside=beside,
                )
    row.saw("numbers of ids", ", ".join(map(str, counts)))
    row.none("results that differ from those of single ids", 0, of=compared)


# Each of the two is seen on one of the two: the pieces are cut before it is known where they go.
@pytest.mark.row(37)
@pytest.mark.parametrize(
    ("where", "beside"),
    [
        pytest.param("standalone", True, id="standalone-beside"),
        pytest.param("cluster", False, id="cluster-alone"),
        pytest.param("standalone", False, id="standalone-alone", marks=pytest.mark.exhaustive),
        pytest.param("cluster", True, id="cluster-beside", marks=pytest.mark.exhaustive),
    ],
    indirect=["where"],
)
def test_documents_that_fill_a_piece_to_the_byte_are_handled_as_one_by_one(
    row: Row, where: Where, tmp_path: Path, beside: bool
) -> None:
    compared = 0
    sizes = sorted(set(BYTES.values()))
    for limit in sizes if row.full else [size for size in sizes if size <= SMALL]:
        for number, values in enumerate(of_bytes(limit)):
            where.client.flushall()
            directory = tmp_path / f"{limit}-{number}"
            compared += everything(where, values, directory, kind="sync", beside=beside)
    row.saw("limits in bytes", ", ".join(f"{size:,}" for size in sizes))
    row.none("results that differ from those of single documents", 0, of=compared)


@pytest.mark.row(37)
def test_commands_that_work_in_pieces_handle_any_number_of_ids(
    row: Row,
    where: Where,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = {name: size for name, size in ITEMS.items() if "/cli/" in name}
    sizes = own.values() if row.full else [size for size in own.values() if size <= MUCH]
    for name, value in where.settings.items():
        monkeypatch.setenv(name.upper(), str(value))

    def run(command: Any, *arguments: Any, **options: Any) -> Any:
        with session() as current:
            command(current, *arguments, **options)
        return json.loads(capsys.readouterr().out)

    with SyncRedisKVStorage("llm_response_cache", where.settings) as cache:
        for count in around(sizes):
            for empty in (lambda _: True, lambda _: False, lambda number: number % 2):
                where.client.flushall()
                answers = {f"h{n}": {"return": "" if empty(n) else "yes"} for n in range(count)}
                cache.upsert(answers)
                none = sum(1 for answer in answers.values() if not answer["return"])
                for dry_run in (True, False):
                    said = run(prune, dry_run=dry_run)
                    same("prune", said["answers"], {"llm_response_cache": none})
                said = run(copy, "elsewhere")
                same("copy", said["copied"], count - none)
                said = run(drop, "llm_response_cache", True)
                same("drop", (said["deleted"], cache.all_keys()), (count - none, []))
    row.none("wrong counts of commands", 0, of=9 * len(around(sizes)))


@contextmanager
def session() -> Iterator[Session]:
    yield Session(Output(as_json=True), {})


# A SCAN finds keys that are no ids. All of a page may be.
@pytest.mark.row(37)
def test_keys_that_are_no_ids_are_passed_over_in_whole_pages(row: Row, where: Where) -> None:
    settings = where.settings | {"redis_registry": True}
    for count in around([ITEMS["src/store/batch_sizes.rs: BATCH_ITEMS"]]):
        where.client.flushall()
        for number in range(count):
            where.client.set(PREFIX.encode() + b"\xff%d" % number, b"1")
        with SyncRedisKVStorage(NAMESPACE, settings) as store:
            same("all_keys", store.all_keys(), [])
            same("get_stats", store.get_stats()["key_count"], 0)
            assert store._core is not None
            same("repair", store._core.repair(), (0, 0))
            same("registry_drift", store._core.registry_drift(), (0, 0))
            store.drop()
        with SyncRedisKVStorage(NAMESPACE, where.settings) as store:
            same("all_keys", store.all_keys(), [])
            store.drop()
        assert where.client.dbsize() == count + 1
    row.none("keys that are no ids, taken for ids", 0, of=count)


@pytest.mark.row(37)
def test_a_barrier_proves_any_number_of_writes(row: Row, server_binary: Path) -> None:
    with RedisServer(server_binary, appendonly="yes", appendfsync="always") as server:
        for count in around([ITEMS["src/client/durability/barrier.rs: RECHECK_BATCH"]]):
            settings = {"redis_url": server.url, "redis_durability": "fsync"}
            with SyncRedisKVStorage(
                NAMESPACE, settings | {"redis_workspace": f"w{count}"}
            ) as store:
                store.upsert(numbered(count))
                store.index_done_callback()
    row.none("barriers that were not passed", 0, of=count)
