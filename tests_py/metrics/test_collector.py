"""The collector: what a scrape of a process tells, and what it costs the server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nano_graphrag_redis import SyncRedisKVStorage, _core
from nano_graphrag_redis.metrics import register, unregister
from nano_graphrag_redis.metrics.exposition import namespaces_sampled
from nano_graphrag_redis.metrics.families import FAMILIES, RENAMED
from support.conditions import eventually
from support.scripts import run_script
from support.servers import RedisServer, server_binaries

OFTEN = 0.1
"""Seconds between two looks, in a test."""


@pytest.fixture
def namespace() -> str:
    return f"n{uuid.uuid4().hex}"


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    register(registry)
    yield registry
    unregister(registry)


def scraped(registry: CollectorRegistry) -> dict[str, Any]:
    text = generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def share_of(namespace: str) -> tuple[float | None, float | None] | None:
    return namespaces_sampled(_core.metrics(sample_every=OFTEN)).get(namespace)


def test_a_scrape_names_every_metric_and_its_meaning(registry: CollectorRegistry) -> None:
    told = scraped(registry)
    for family in FAMILIES:
        name = family.name.removesuffix("_total")
        assert (told[name].type, told[name].documentation) == (family.kind, family.meaning)


# Whoever looks a keyspace over needs a store, whose counters a scrape tells.
def test_looking_over_a_keyspace_makes_up_no_namespace(server: RedisServer, tmp_path: Path) -> None:
    script = f"""
    from nano_graphrag_redis import _core, migration
    storage.sync.upsert({{"a": 1}})
    migration.export({str(tmp_path)!r}, {{"redis_url": URL}})
    print(sorted(_core.metrics(sample_every=60)["namespaces"]))
    """
    assert run_script(script, server.url).cleanly() == "['full_docs']\n"


def test_registering_again_adds_nothing(registry: CollectorRegistry) -> None:
    before = register(registry)
    assert register(registry) is before
    unregister(registry)
    unregister(registry)
    assert scraped(registry) == {}


def test_a_duration_is_in_every_bucket_that_it_fits(
    server: RedisServer, namespace: str, registry: CollectorRegistry
) -> None:
    with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
        for _ in range(5):
            storage.get_by_id("a")
    family = scraped(registry)["redis_operation_duration_seconds"]
    ours = [each for each in family.samples if each.labels["namespace"] == namespace]
    buckets = [each.value for each in ours if each.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 5
    (total,) = (each.value for each in ours if each.name.endswith("_sum"))
    assert 0 < total < 60


def test_memory_and_keys_are_those_of_the_namespace(
    server: RedisServer, namespace: str, redis_client: redis.Redis
) -> None:
    redis_client.set("foreign", "x" * 10_000)
    with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
        storage.upsert({f"doc-{i}": "x" * 1000 for i in range(20)})
        eventually(lambda: share_of(namespace) not in (None, (0, 0)))
        keys, memory = share_of(namespace) or (None, None)
    each = redis_client.memory_usage(f"nano_graphrag:{namespace}:doc-7")
    assert each is not None
    assert keys == 20
    assert memory == pytest.approx(20 * each, rel=0.05)


def test_a_large_database_is_sampled() -> None:
    namespace = f"n{uuid.uuid4().hex}"
    with (
        RedisServer(server_binaries()["valkey"]) as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage,
    ):
        client = server.client()
        client.mset({f"foreign:{i}": "x" for i in range(30_000)})
        client.mset({f"{storage._backend.store.prefix}{i}": "1" for i in range(10_000)})
        storage.check_health()
        eventually(lambda: share_of(namespace) not in (None, (0, 0)))
        pages = client.info("commandstats")["cmdstat_scan"]["calls"]
        keys, _ = share_of(namespace) or (None, None)
    assert keys == pytest.approx(10_000, rel=0.1)
    assert pages % 10 == 0, "ten pages a look, however large the database"


def test_evictions_are_counted(namespace: str) -> None:
    with (
        RedisServer(maxmemory="3mb", maxmemory_policy="allkeys-lru") as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage,
    ):
        storage.upsert({f"doc-{i}": "x" * 10_000 for i in range(400)})
        client = server.client()
        assert client.info("stats")["evicted_keys"] > 0

        def counted() -> int | None:
            told = _core.metrics(sample_every=OFTEN)["servers"][f"{server.url}/0"]["sets"]
            return told[0].get("sample", {}).get("evicted_keys") if told else None

        # What the connections take makes it evict more, so both are asked anew.
        eventually(lambda: counted() == client.info("stats")["evicted_keys"])


def test_a_user_who_may_not_ask_gets_the_rest(namespace: str) -> None:
    rules = "user alice on >secret ~nano_graphrag:* +get +set +scan +ping +client"
    settings = {"redis_username": "alice", "redis_password": "secret"}
    with (
        RedisServer(config=(rules,)) as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url, **settings}) as storage,
    ):
        storage.upsert({"a": 1})
        eventually(lambda: (share_of(namespace) or (0,))[0] == 1)
        assert share_of(namespace) == (1, None)


def test_a_scrape_asks_no_server_anything(namespace: str, registry: CollectorRegistry) -> None:
    with (
        RedisServer() as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage,
    ):
        storage.upsert({"a": 1})
        eventually(lambda: share_of(namespace) is not None)
        # Longer than this test: what is asked now is asked by the scrape.
        _core.metrics(sample_every=600)
        client = server.client(single_connection_client=True)
        eventually(lambda: "cmdstat_scan" in client.info("commandstats"))

        def asked() -> dict[str, int]:
            told = client.info("commandstats")
            # The background's PING goes on, whoever scrapes.
            mine = ("cmdstat_info", "cmdstat_ping")
            return {name: each["calls"] for name, each in told.items() if name not in mine}

        before = asked()
        for _ in range(10):
            generate_latest(registry)
        assert asked() == before


def test_a_server_that_dies_while_nobody_asks_is_down_until_it_is_back(namespace: str) -> None:
    def up() -> bool | None:
        told = _core.metrics(sample_every=OFTEN)["servers"].get(f"{server.url}/0", {"sets": ()})
        up: bool | None = next((each.get("up") for each in told["sets"]), None)
        return up

    with (
        RedisServer() as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage,
    ):
        assert up() is None
        storage.upsert({"a": 1})
        eventually(lambda: up() is True)
        server.kill()
        eventually(lambda: up() is False)
        server.start()
        eventually(lambda: up() is True)
        server.pause()
        eventually(lambda: up() is False)
        server.resume()
        eventually(lambda: up() is True)


def test_what_a_server_says_of_its_memory_and_its_disk_is_told(
    namespace: str, registry: CollectorRegistry
) -> None:
    register(registry).sample_every = OFTEN

    def figure(name: str) -> float | None:
        samples = scraped(registry)[f"nano_graphrag_redis_{name}"].samples
        mine = [each.value for each in samples if each.labels["server"] == f"{server.url}/0"]
        return mine[0] if mine else None

    with (
        RedisServer(maxmemory="64mb", dbfilename="taken.rdb") as server,
        SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage,
    ):
        storage.upsert({"a": 1})
        eventually(lambda: figure("server_memory_max_bytes") == 64 << 20)
        assert 0 < (figure("server_memory_bytes") or 0) < 64 << 20
        assert figure("persistence_ok") == 1
        client = server.client()
        Path(str(client.config_get("dir")["dir"]), "taken.rdb").mkdir()
        client.bgsave()  # which cannot replace a directory by its file
        eventually(lambda: figure("persistence_ok") == 0)
        client.config_set("maxmemory", 0)
        eventually(lambda: figure("server_memory_max_bytes") is None)


def test_the_old_names_are_scraped_beside_the_new_ones(
    server: RedisServer, namespace: str, registry: CollectorRegistry
) -> None:
    with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
        storage.get_by_id("a")
    told = scraped(registry)
    for names in RENAMED.items():
        new, old = (name.removesuffix("_total") for name in names)
        ending = {sample.name.removeprefix(new): sample.value for sample in told[new].samples}
        assert {each.name.removeprefix(old): each.value for each in told[old].samples} == ending
        assert told[old].documentation.startswith("Deprecated: use nano_graphrag_redis_")
    assert told["redis_cache_misses"].samples


def test_a_storage_that_was_not_used_is_not_connected_by_being_watched(namespace: str) -> None:
    with (
        RedisServer() as server,
        RedisServer() as other,
        SyncRedisKVStorage(namespace, {"redis_url": server.url}),
        SyncRedisKVStorage(namespace, {"redis_url": other.url}) as used,
    ):
        client = server.client(single_connection_client=True)
        before = client.info("stats")["total_connections_received"]
        used.upsert({"a": 1})
        eventually(lambda: (share_of(namespace) or (0,))[0] == 1)
        assert client.info("stats")["total_connections_received"] == before


def test_a_forked_child_tells_of_itself_and_looks_by_itself(server: RedisServer) -> None:
    out = run_script(
        """
        from prometheus_client import CollectorRegistry, generate_latest
        from nano_graphrag_redis import _core
        from nano_graphrag_redis.metrics import register
        registry = CollectorRegistry()
        register(registry).sample_every = 0.05

        def told(word):
            text = generate_latest(registry).decode()
            return [line for line in text.splitlines() if line.startswith(word)]

        def keys():
            deadline = time.monotonic() + 20
            # The first look may come before the write.
            while not (found := told("nano_graphrag_redis_keys{")) or not found[0].endswith(" 1.0"):
                assert time.monotonic() < deadline, found
                time.sleep(0.01)
            return found

        with SyncRedisKVStorage("full_docs", {"redis_url": URL}) as docs:
            docs.upsert({"a": 1})
            print(keys(), flush=True)  # what is in the buffer, the child has too
            if os.fork() == 0:
                docs.get_by_id("a")
                print(told("nano_graphrag_redis_operations_total{"), keys(), flush=True)
                os._exit(0)
            os.wait()
        """,
        server.url,
    ).cleanly()
    keys = """['nano_graphrag_redis_keys{namespace="full_docs"} 1.0']"""
    labels = 'namespace="full_docs",operation="get_by_id",status="ok"'
    call = f"nano_graphrag_redis_operations_total{{{labels}}} 1.0"
    assert out.splitlines() == [keys, f"['{call}'] {keys}"]
