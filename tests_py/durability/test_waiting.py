"""Who waits for a barrier may leave, be interrupted or fork, and harms nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from durability.conftest import replicate
from nano_graphrag_redis import DurabilityError, RedisKVStorage
from support.scripts import run_script
from support.servers import RedisServer


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica."""
    with RedisServer() as primary, RedisServer() as replica:
        replicate(primary, replica)
        yield primary, replica


def test_who_is_cancelled_leaves_the_barrier_to_the_others(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    primary, replica = pair
    config = {
        "redis_url": primary.url,
        "redis_durability": "replicas:1",
        "redis_durability_timeout": 20,
    }

    async def main() -> None:
        async with RedisKVStorage("full_docs", config) as documents:
            await documents.upsert({"doc-1": {}})
            replica.pause()
            waiting = [asyncio.ensure_future(documents.index_done_callback()) for _ in range(20)]
            await asyncio.sleep(0.1)  # the first of them has sent its WAIT
            for task in waiting[:15]:
                task.cancel()
            await documents.upsert({"doc-2": {}})
            late = asyncio.ensure_future(documents.index_done_callback())
            replica.resume()
            left = await asyncio.gather(*waiting[:15], return_exceptions=True)
            assert {type(one) for one in left} == {asyncio.CancelledError}
            await asyncio.gather(*waiting[15:], late)
            assert replica.client().exists("nano_graphrag:full_docs:doc-2") == 1

    try:
        asyncio.run(main())
    finally:
        replica.resume()


def test_ctrl_c_ends_the_wait_and_the_next_one_passes(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    primary, replica = pair
    script = """
    replica = int(sys.argv[2])
    settings = {"redis_durability": "replicas:1", "redis_durability_timeout": 20}
    documents = SyncRedisKVStorage("full_docs", {"redis_url": URL, **settings})
    documents.upsert({"doc-1": {}})
    documents.index_done_callback()
    os.kill(replica, signal.SIGSTOP)
    documents.upsert({"doc-2": {}})
    def interrupt():
        global signalled
        signalled = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    timer = threading.Timer(0.3, interrupt)
    timer.start()
    try:
        documents.index_done_callback()
    except KeyboardInterrupt:
        print(time.monotonic() - signalled)
    finally:
        os.kill(replica, signal.SIGCONT)
    documents.index_done_callback()
    """
    out = run_script(script, primary.url, replica.pid).cleanly()
    assert float(out) < 0.75  # promised: 0.15


def test_a_forked_child_waits_on_a_line_of_its_own(pair: tuple[RedisServer, RedisServer]) -> None:
    primary, _ = pair
    script = """
    import redis
    settings = {"redis_durability": "replicas:1", "redis_durability_timeout": 20}
    documents = SyncRedisKVStorage("full_docs", {"redis_url": URL, **settings})
    signal.alarm(50)
    def use(round):
        documents.upsert({f"{os.getpid()}-{round}": round})
        documents.index_done_callback()
    use(0)
    for round in range(5):
        pid = os.fork()
        use(round)
        if pid == 0:
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with redis.Redis.from_url(URL) as client:
        print(client.info("commandstats")["cmdstat_wait"]["calls"])
    """
    assert int(run_script(script, primary.url).cleanly()) == 11


def test_a_namespace_that_misses_never_raises_and_counts_what_was_not_met(
    server_binary: Path,
) -> None:
    config = {
        "redis_durability": "replicas:1",
        "redis_durability_timeout": 0.05,
        "redis_outage_policy": {"llm_response_cache": "miss"},
    }

    async def main(url: str) -> None:
        async with RedisKVStorage("llm_response_cache", {"redis_url": url, **config}) as cache:
            for number in range(3):
                await cache.upsert({f"hash-{number}": {"return": "x", "model": "m"}})
                await cache.index_done_callback()
            assert (await cache.get_stats(light=True))["forgiven"]["durability"] == 3
        async with RedisKVStorage("full_docs", {"redis_url": url, **config}) as documents:
            await documents.upsert({"doc-1": {}})
            with pytest.raises(DurabilityError):
                await documents.index_done_callback()

    with RedisServer(server_binary) as server:
        asyncio.run(main(server.url))


def test_a_barrier_on_a_server_that_is_gone_fails_for_want_of_a_server(
    server_binary: Path,
) -> None:
    config = {"redis_durability": "fsync", "redis_max_retries": 1}

    async def main(server: RedisServer) -> None:
        async with RedisKVStorage("full_docs", {"redis_url": server.url, **config}) as documents:
            await documents.upsert({"doc-1": {}})
            server.kill()
            with pytest.raises(ConnectionError):
                await documents.index_done_callback()

    with RedisServer(server_binary, appendonly="yes") as server:
        asyncio.run(main(server))
