"""What single flight sends, and where it has no say; leases are no ids of any namespace."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from nano_graphrag_redis import RedisConfig, RedisKVStorage
from nano_graphrag_redis.doctor import examine
from nano_graphrag_redis.migration.namespaces_and_foreign_keys import Foreign, entries_of
from support.scripts import start_script
from support.servers import RedisServer

from .conftest import OpenCache
from .test_the_holder import ANSWER, leases

LEASE = "nano_graphrag:@lease:{nano_graphrag:llm_response_cache:question}"


@contextmanager
def monitored(client: redis.Redis) -> Iterator[list[str]]:
    """The commands that others send meanwhile, each as its words."""
    seen: list[str] = []

    def listen(monitor: Any) -> None:
        for told in monitor.listen():
            if "the end" in told["command"]:
                return
            seen.append(told["command"])

    with client.monitor() as monitor:
        thread = threading.Thread(target=listen, args=(monitor,))
        thread.start()
        try:
            yield seen
        finally:
            client.echo("the end")
            thread.join()


def around_a_call(cache: RedisKVStorage) -> None:
    """What the host does around a call of the LLM."""

    async def call() -> None:
        assert await cache.get_by_id("question") is None
        await cache.upsert({"question": ANSWER})
        await cache.index_done_callback()

    async def main() -> None:
        # Connected before, and first use looked at.
        assert await cache.check_health()
        await asyncio.create_task(call())

    asyncio.run(main())


def names(commands: list[str]) -> list[str]:
    about_ids = [words for words in commands if ":question" in words]
    return [words.split()[0] for words in about_ids]


def test_off_nothing_more_is_sent(open_cache: OpenCache, redis_client: redis.Redis) -> None:
    cache = open_cache(redis_single_flight="off")
    with monitored(redis_client) as seen:
        around_a_call(cache)
    assert names(seen) == ["GET", "SET"]
    assert not [words for words in seen if "@lease" in words]


def test_on_a_miss_takes_a_lease_and_the_answer_releases_it(
    open_cache: OpenCache, redis_client: redis.Redis
) -> None:
    cache = open_cache()
    with monitored(redis_client) as seen:
        around_a_call(cache)
        while leases(redis_client):
            pass
    sent = [words for words in seen if ":question" in words]
    assert names(seen) == ["GET", "SET", "GET", "GET", "SET", "UNLINK"]
    assert all(words.count("nano_graphrag:") <= 2 for words in sent), "one key a command"
    assert sent[1].startswith(f"SET {LEASE} ")
    assert sent[1].endswith(" NX PX 10000")


def test_a_hit_sends_nothing_more(open_cache: OpenCache, redis_client: redis.Redis) -> None:
    cache = open_cache()
    cache.sync.upsert({"question": ANSWER})
    with monitored(redis_client) as seen:
        assert asyncio.run(cache.get_by_id("question")) == ANSWER
    assert names(seen) == ["GET"]


def test_nothing_else_takes_a_lease(open_cache: OpenCache, redis_client: redis.Redis) -> None:
    cache, docs = open_cache(), open_cache(namespace="full_docs")

    async def main() -> None:
        assert await cache.get_by_ids(["question"]) == [None]
        assert await cache.filter_keys(["question"]) == {"question"}
        assert cache.sync.get_by_id("question") is None
        assert await docs.get_by_id("question") is None

    with monitored(redis_client) as seen:
        asyncio.run(main())
    assert not [words for words in seen if "@lease" in words]
    assert docs.sync.get_stats(light=True)["single_flight"] is None


def test_a_lease_is_no_id(open_cache: OpenCache, redis_client: redis.Redis) -> None:
    cache = open_cache()

    async def main() -> None:
        assert await cache.get_by_id("question") is None
        assert len(leases(redis_client)) == 1
        assert 0 < redis_client.pttl(LEASE) <= 10_000
        assert await cache.all_keys() == []
        assert (await cache.get_stats())["key_count"] == 0
        await cache.drop()
        assert len(leases(redis_client)) == 1

    asyncio.run(main())


def test_the_commands_and_the_doctor_take_a_lease_for_nothing_of_theirs(
    open_cache: OpenCache, redis_client: redis.Redis
) -> None:
    cache = open_cache()
    cache.sync.upsert({"kept": ANSWER})
    config = RedisConfig(redis_url=cache.global_config["redis_url"])

    async def main() -> None:
        before = await asyncio.to_thread(seen)
        assert await cache.get_by_id("question") is None
        assert len(leases(redis_client)) == 1
        assert await asyncio.to_thread(seen) == before

    def seen() -> tuple[list[Any], list[Any], list[Any]]:
        foreign = Foreign()
        entries = sorted(entries_of(config, foreign))
        findings = [(each.check, each.severity, each.count) for each in examine(config)]
        return findings, entries, [foreign.count]

    asyncio.run(main())


def test_observing_it_takes_a_lease_waits_for_nobody_and_counts(
    open_cache: OpenCache, redis_client: redis.Redis
) -> None:
    first = open_cache(0, redis_single_flight="observe")
    second = open_cache(1, redis_single_flight="observe")

    async def main() -> list[Any]:
        assert await first.get_by_id("question") is None
        others = [cache.get_by_id("question") for cache in (first, first, second)]
        return await asyncio.wait_for(asyncio.gather(*others), 5)

    assert asyncio.run(main()) == [None] * 3
    told = [cache.sync.get_stats(light=True)["single_flight"] for cache in (first, second)]
    assert [each and each["would_wait"] for each in told] == [2, 1]
    assert [each and each["leases"] for each in told] == [1, 0]
    assert [each and each["waits"] for each in told] == [0, 0]


FORK = """
import json

cache = RedisKVStorage("llm_response_cache", {"redis_url": URL, **json.loads(sys.argv[2])})
here = os.getpid()

async def main():
    assert await cache.get_by_id("question") is None
    if (child := os.fork()) == 0:
        began = time.monotonic()
        # On a loop of its own, which its parent's is not.
        ask = lambda: waited.append(asyncio.run(cache.get_by_id("question")))
        waited = []
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert waited == [None] and time.monotonic() - began >= 0.3, "it has not waited"
        return  # the task that held the lease ends in the child as well
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("holding", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


def test_a_forked_child_holds_nothing_and_ends_nothing(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    settings = {"redis_single_flight": "on", "redis_single_flight_wait": 0.3}
    script = start_script(FORK, server.url, json.dumps(settings))
    assert script.stdout is not None
    assert script.stdout.readline() == "holding\n", script.communicate()[1]
    assert len(leases(redis_client)) == 1
    assert (script.communicate("\n", timeout=30), script.returncode) == (("", ""), 0)


def test_with_a_near_cache_the_answer_comes_as_well(open_cache: OpenCache) -> None:
    first = open_cache(0, redis_near_cache_mb=8)
    second = open_cache(1, redis_near_cache_mb=8)

    async def call(cache: RedisKVStorage) -> Any:
        found = await cache.get_by_id("question")
        if found is None:
            await asyncio.sleep(0.3)
            await cache.upsert({"question": ANSWER})
            calls.append(1)
        return found or ANSWER

    calls: list[int] = []

    async def main() -> list[Any]:
        return await asyncio.gather(*(call(cache) for cache in (first, second) * 4))

    assert asyncio.run(main()) == [ANSWER] * 8
    assert len(calls) == 1


def test_without_a_server_a_miss_is_a_miss(server: RedisServer, open_cache: OpenCache) -> None:
    cache = open_cache(redis_url="redis://127.0.0.1:1", redis_operation_timeout=1.0)
    assert asyncio.run(cache.get_by_id("question")) is None
