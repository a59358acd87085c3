"""The host leaks a slot for each exception inside a cached LLM call and stops after sixteen."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bridge.conftest import OpenStorage
from nano_graphrag_redis import RedisKVStorage
from nano_graphrag_redis.exceptions import StorageClosedError, StorageConfigError, StorageError
from support.conditions import eventually
from support.scripts import run_script
from support.servers import RedisServer

CACHE = "llm_response_cache"
KEY = b"nano_graphrag:llm_response_cache:"
Fault = Callable[[RedisServer], None]


def down(server: RedisServer) -> None:
    server.kill()


def stalled(server: RedisServer) -> None:
    server.pause()


def out_of_memory(server: RedisServer) -> None:
    server.client().config_set("maxmemory", "1")


def without_permission(server: RedisServer) -> None:
    server.client().acl_setuser("default", enabled=True, commands=["-@all", "+acl"])


def wrong_type(server: RedisServer) -> None:
    server.client().rpush(KEY + b"hash", b"1")


def corrupt(server: RedisServer) -> None:
    server.client().set(KEY + b"hash", b"{")


def forgiven(storage: RedisKVStorage) -> dict[str, int]:
    counts: dict[str, int] = storage.sync.get_stats(light=True)["forgiven"]
    return {kind: count for kind, count in counts.items() if count}


def open_cache(open_storage: OpenStorage, server: RedisServer, **settings: Any) -> RedisKVStorage:
    short = {"redis_operation_timeout": 0.3, "redis_max_retries": 0, "redis_breaker_failures": 3}
    return open_storage(CACHE, redis_url=server.url, **{**short, **settings})


async def cached_llm_call(cache: RedisKVStorage) -> None:
    """What the host does around each call, batches added."""
    assert await cache.get_by_id("hash") is None
    assert await cache.get_by_ids(["hash", "other"]) == [None, None]
    assert await cache.filter_keys(["hash", "other"]) <= {"hash", "other"}
    await cache.upsert({"other-hash": {"return": "Bah!"}})
    await cache.index_done_callback()


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (down, {"unavailable", "circuit_open"}),
        (stalled, {"timeout", "circuit_open"}),
        (out_of_memory, {"operation"}),
        (without_permission, {"operation"}),
        (wrong_type, {"operation"}),
        (corrupt, {"corrupt"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_no_fault_raises_inside_a_cached_llm_call(
    own_server: RedisServer, open_storage: OpenStorage, fault: Fault, kinds: set[str]
) -> None:
    cache = open_cache(open_storage, own_server)
    cache.sync.upsert({"a": 1})
    fault(own_server)
    for _ in range(4):
        asyncio.run(cached_llm_call(cache))
    with repaired(own_server, fault):
        eventually(cache.sync.check_health)
        assert set(forgiven(cache)) == kinds


@contextmanager
def repaired(server: RedisServer, fault: Fault) -> Iterator[None]:
    if fault is down:
        server.start()
    elif fault is stalled:
        server.resume()
    elif fault is without_permission:
        server.client().acl_setuser("default", enabled=True, commands=["+@all"])
    yield


def test_a_value_that_is_refused_is_dropped_and_counted(open_storage: OpenStorage) -> None:
    cache = open_storage(CACHE)
    asyncio.run(cache.upsert({"hash": {"return": {1, 2}}}))
    assert asyncio.run(cache.get_by_id("hash")) is None
    assert forgiven(cache) == {"serialization": 1}


# Unlike a value, an id is an argument; but inside an LLM call both would cost a slot.
def test_an_id_that_is_refused_is_a_miss_and_counted(open_storage: OpenStorage) -> None:
    cache = open_storage(CACHE)
    assert asyncio.run(cache.get_by_id("\ud800")) is None
    asyncio.run(cache.upsert({"\ud800": 1}))
    assert forgiven(cache) == {"serialization": 2}


def test_an_outage_is_one_warning_and_its_end_another(
    own_server: RedisServer, open_storage: OpenStorage, caplog: pytest.LogCaptureFixture
) -> None:
    cache = open_cache(open_storage, own_server)
    cache.sync.upsert({"a": 1})
    caplog.clear()
    own_server.kill()
    for _ in range(10):
        assert cache.sync.get_by_id("a") is None
    own_server.start()
    eventually(cache.sync.check_health)
    for _ in range(10):
        assert cache.sync.get_by_id("a") == 1
    logged = [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if record.event.startswith("outage")  # type: ignore[attr-defined]  # the breaker has its own
    ]
    assert [level for level, _ in logged] == [logging.WARNING, logging.WARNING]
    assert all(CACHE in message for _, message in logged)
    assert "is back" in logged[1][1]


def test_other_namespaces_raise(own_server: RedisServer, open_storage: OpenStorage) -> None:
    own_server.kill()
    for namespace in ("full_docs", "text_chunks", "community_reports", "of_my_own"):
        docs = open_storage(namespace, redis_url=own_server.url, redis_max_retries=0)
        for call in (docs.sync.get_by_id, docs.sync.delete_by_id):
            with pytest.raises(StorageError, match=namespace):
                call("a")


def test_wrong_settings_and_use_after_close_raise_even_so(open_storage: OpenStorage) -> None:
    with pytest.raises(StorageConfigError, match="redis_max_connections"):
        open_storage(CACHE, redis_max_connections=0)
    cache = open_storage(CACHE)
    cache.sync.close()
    with pytest.raises(StorageClosedError, match=CACHE):
        asyncio.run(cache.get_by_id("hash"))


# A delete is no part of an LLM call: who asks for one must know whether it was done.
def test_deleting_and_dropping_raise_even_so(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    cache = open_cache(open_storage, own_server, redis_breaker_failures=100)
    own_server.kill()
    for call in (cache.delete_by_id("a"), cache.delete_by_ids(["a"]), cache.drop()):
        with pytest.raises(StorageError):
            asyncio.run(call)


def test_at_the_limit_of_descriptors_the_first_call_of_a_loop_is_answered(
    server: RedisServer,
) -> None:
    script = """
    import resource
    def loop_and_full(namespace):
        storage = RedisKVStorage(namespace, {"redis_url": URL})
        storage.sync.upsert({"a": 1})
        loop = asyncio.new_event_loop()
        held = []
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        return storage, loop, held

    storage, loop, held = loop_and_full("full_docs")
    print(loop.run_until_complete(storage.get_by_id("a")))
    for descriptor in held:
        os.close(descriptor)
    print(loop.run_until_complete(storage.get_by_id("a")))
    loop.close()
    """
    ended = run_script(script, server.url)
    assert (ended.code, ended.out) == (0, "1\n1\n"), ended


def test_a_log_handler_that_raises_changes_nothing_of_a_call(server: RedisServer) -> None:
    script = """
    import logging
    class Broken(logging.Handler):
        def emit(self, record):
            raise ValueError("the handler broke")
    logger = logging.getLogger("nano_graphrag_redis")
    logger.addHandler(Broken())
    logger.setLevel(logging.INFO)
    storage.sync.upsert({"a": 1})
    print(storage.sync.get_by_id("a"))
    """
    ended = run_script(script, server.url)
    assert (ended.code, ended.out) == (0, "1\n"), ended
    assert "ValueError: the handler broke" in ended.err
