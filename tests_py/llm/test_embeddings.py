"""Vectors are paid for once, come back bit for bit, and no outage fails the call."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from nano_graphrag import GraphRAG
from nano_graphrag._utils import EmbeddingFunc

from nano_graphrag_redis import StorageConfigError, _core, cache_embeddings
from nano_graphrag_redis.llm import cached_vectors
from nano_graphrag_redis.llm.cached_vectors import AT_ONCE
from support.conditions import eventually
from support.scripts import run_script
from support.servers import RedisServer

from .conftest import DIMENSION, Provider

MODEL = "test-embedding"


def cached(provider: Provider, server: RedisServer, model: str = MODEL, **settings: Any) -> Any:
    return cache_embeddings(provider.func, {"redis_url": server.url, **settings}, model=model)


def embed(func: Any, *texts: str) -> Any:
    return asyncio.run(func(list(texts)))


def counts() -> dict[str, int]:
    """Hits, misses and forgiven failures of this process so far."""
    told = _core.metrics()["namespaces"].get("embedding_cache")
    return {
        "hits": told["counts"]["hits"] if told else 0,
        "misses": told["counts"]["misses"] if told else 0,
        "forgiven": sum(told["forgiven"].values()) if told else 0,
    }


def counted_since(before: dict[str, int]) -> dict[str, int]:
    return {name: number - before[name] for name, number in counts().items()}


def test_the_provider_is_asked_only_for_texts_that_are_missing_and_for_each_once(
    provider: Provider, server: RedisServer
) -> None:
    func = cached(provider, server)
    before = counts()
    embed(func, "a", "b")
    got = embed(func, "c", "b", "", "c", "a", "näher \ud800")
    assert provider.batches == [["a", "b"], ["c", "", "näher \ud800"]]
    assert got.tobytes() == provider.vectors(["c", "b", "", "c", "a", "näher \ud800"]).tobytes()
    assert embed(func, "a", "a").tobytes() == provider.vectors(["a", "a"]).tobytes()
    assert len(provider.batches) == 2
    assert counted_since(before) == {"hits": 3, "misses": 5, "forgiven": 0}


@pytest.mark.parametrize("many", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 1])
def test_many_texts_are_read_and_written_in_turns_of_the_loop(
    provider: Provider, server: RedisServer, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    turn = 0
    worked: Counter[tuple[str, int]] = Counter()

    def watched(name: str) -> Callable[..., Any]:
        body = getattr(cached_vectors, name)

        def watching(*arguments: Any) -> Any:
            worked[name, turn] += 1
            return body(*arguments)

        return watching

    for name in ("encoded", "decoded"):
        monkeypatch.setattr(cached_vectors, name, watched(name))
    texts = [f"text {number}" for number in range(many)]
    texts.insert(many // 2, texts[0])

    async def turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def main() -> None:
        ticking = asyncio.create_task(turns())
        func = cached(provider, server)
        for _ in range(2):
            assert (await func(texts)).tobytes() == provider.vectors(texts).tobytes()
        ticking.cancel()

    asyncio.run(main())
    assert len(provider.batches) == 1
    assert max(worked[name, turn] for name, turn in worked if name == "encoded") <= AT_ONCE
    # Once to tell whether it is one, and once to give it.
    assert max(worked[name, turn] for name, turn in worked if name == "decoded") <= 2 * AT_ONCE


def test_vectors_that_are_asked_for_live_on(
    provider: Provider, server: RedisServer, redis_client: redis.Redis
) -> None:
    sliding: dict[str, Any] = {"redis_ttl": {"embedding_cache": 1_000}, "redis_ttl_sliding": True}
    func = cached(provider, server, **sliding)
    embed(func, "a", "b")
    keys: Any = redis_client.keys("nano_graphrag:embedding_cache:*")
    assert len(keys) == 2
    for key in keys:
        redis_client.expire(key, 400)
    embed(func, "a", "b")
    eventually(lambda: all(redis_client.ttl(key) > 900 for key in keys))
    assert provider.batches == [["a", "b"]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8"])
def test_vectors_come_back_bit_for_bit_in_the_type_of_the_provider(
    dtype: str, server: RedisServer
) -> None:
    provider = Provider(dtype=dtype)
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-5, 0.1, 6e4]).astype(dtype)
    ordinary = provider.vectors(["a", "b"])

    async def ask(texts: list[str]) -> Any:
        return np.stack([special, *ordinary])

    func = EmbeddingFunc(embedding_dim=DIMENSION, max_token_size=1, func=ask)
    texts = ["special", "a", "b"]
    for _ in range(2):  # from the provider, then from the server
        got = embed(cache_embeddings(func, {"redis_url": server.url}, model=dtype), *texts)
        assert got.dtype == np.dtype(dtype).newbyteorder("=")
        expected = np.stack([special, *ordinary])
        assert got.astype(dtype).tobytes() == expected.astype(dtype).tobytes()
        assert got.flags.writeable


def test_doubles_that_are_floats_take_half_the_room(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    for narrow in (True, False):
        provider = Provider(dimension=1536)
        vector = provider.vectors(["a"])
        given = vector.astype("f4").astype("f8") if narrow else vector

        async def ask(texts: list[str], given: Any = given) -> Any:
            return given

        func = EmbeddingFunc(embedding_dim=1536, max_token_size=1, func=ask)
        for _ in range(2):
            kept = cache_embeddings(func, {"redis_url": server.url}, model=str(narrow))
            assert embed(kept, "a").tobytes() == given.tobytes()
    small, large = sorted(redis_client.strlen(key) for key in redis_client.scan_iter("*"))
    assert 1536 * 4 * 4 / 3 < small < 8_400
    assert 1536 * 8 * 4 / 3 < large < 16_600


def test_numbers_of_another_type_or_shape_are_passed_on_and_not_kept(
    server: RedisServer, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ragged = [[1.0] * DIMENSION, [1.0]]
    for answer in (np.ones((2, DIMENSION), int), np.ones((2, 3)), np.ones(DIMENSION), ragged):
        asked: list[list[str]] = []

        async def ask(texts: list[str], answer: Any = answer, asked: Any = asked) -> Any:
            asked.append(texts)
            return answer

        func = EmbeddingFunc(embedding_dim=DIMENSION, max_token_size=1, func=ask)
        kept = cache_embeddings(func, {"redis_url": server.url}, model="in ints")
        assert embed(kept, "a", "b") is answer
        assert embed(kept, "a", "b") is answer
        assert asked == [["a", "b"]] * 2
    assert redis_client.dbsize() == 0
    assert "embeddings of in ints are not cached" in caplog.text


def test_a_provider_that_changes_its_mind_is_asked_for_the_whole_batch(
    provider: Provider, server: RedisServer
) -> None:
    func = cached(provider, server)
    embed(func, "a")
    provider.dimension = 3
    assert embed(func, "a", "b").shape == (2, 3)
    assert provider.batches[1:] == [["b"], ["a", "b"]]


class SlowProvider(Provider):
    """Takes as long as it takes all callers to have asked, if nobody waits for another."""

    under_way = most_at_once = 0

    async def ask(self, texts: list[str]) -> Any:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0.5)
        self.under_way -= 1
        return await super().ask(texts)


def asked_at_once(provider: Provider, server: RedisServer, *texts: str, **settings: Any) -> Any:
    """What each of eight tasks is given, in two workers that share no connection."""
    workers = [
        cached(provider, server, **settings, redis_max_connections=50 + number)
        for number in range(2)
    ]

    async def main() -> list[Any]:
        return await asyncio.gather(*(func(list(texts)) for func in workers for _ in range(4)))

    return asyncio.run(main())


def test_a_text_that_several_workers_embed_at_once_is_embedded_once_under_single_flight(
    server: RedisServer, redis_client: redis.Redis
) -> None:
    provider = SlowProvider()
    given = asked_at_once(provider, server, "a", redis_single_flight="on")
    assert provider.batches == [["a"]]
    assert {vectors.tobytes() for vectors in given} == {provider.vectors(["a"]).tobytes()}
    # It is given back in the background, and long before its time is over.
    eventually(lambda: redis_client.keys("*@lease*") == [], 5)
    # Off, and for several texts, nobody waits.
    asked_at_once(provider, server, "b")
    asked_at_once(provider, server, "c", "d", redis_single_flight="on")
    assert provider.batches[1:] == [["b"]] * 8 + [["c", "d"]] * 8


def test_nobody_waits_for_vectors_that_are_never_stored(server: RedisServer) -> None:
    provider = SlowProvider(dtype="int64")
    func = cached(provider, server, redis_single_flight="on")
    embed(func, "a")

    async def main() -> None:
        await asyncio.gather(*(func(["b"]) for _ in range(12)))
        assert provider.most_at_once == 12

    asyncio.run(main())
    assert provider.batches == [["a"], *([["b"]] * 12)]


def test_who_waits_for_an_embedding_that_fails_embeds_at_once(server: RedisServer) -> None:
    provider = SlowProvider()
    func = cached(provider, server, redis_single_flight="on")

    async def consume(texts: asyncio.Queue[str]) -> Any:
        while True:  # as a worker's task does that lives on
            text = await texts.get()
            try:
                return await func([text])
            except RuntimeError:
                provider.error = None

    async def main() -> None:
        queues = [asyncio.Queue[str]() for _ in range(2)]
        provider.error = RuntimeError("overloaded")
        tasks = [asyncio.create_task(consume(texts)) for texts in queues]
        for texts in queues:
            texts.put_nowait("a")
        ended, _ = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert len(ended) == 1
        for task in tasks:
            task.cancel()

    asyncio.run(main())
    assert provider.batches == [["a"], ["a"]]


DAMAGES: dict[str, Any] = {
    "another dimension": lambda value: value | {"vector": value["vector"][:40]},
    "a flipped bit": lambda value: value | {"vector": "B" + value["vector"][1:]},
    "no base64": lambda value: value | {"vector": "*" + value["vector"][1:]},
    "another type": lambda value: value | {"stored": "<i8"},
    "a type that is none": lambda value: value | {"dtype": {"a": 1}},
    "no vector": lambda value: {"model": value["model"]},
    "null": lambda value: None,
    "a list": lambda value: [1.0],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stored_value_that_cannot_be_used_is_a_miss_and_is_replaced(
    damage: str, provider: Provider, server: RedisServer, redis_client: redis.Redis
) -> None:
    func = cached(provider, server)
    embed(func, "a", "b")
    (key, _) = sorted(redis_client.scan_iter("nano_graphrag:embedding_cache:*"))
    stored: Any = redis_client.get(key)
    redis_client.set(key, json.dumps(DAMAGES[damage](json.loads(stored))))
    before = counts()
    assert embed(func, "a", "b").tobytes() == provider.vectors(["a", "b"]).tobytes()
    assert counted_since(before) == {"hits": 1, "misses": 1, "forgiven": 0}
    assert [len(batch) for batch in provider.batches] == [2, 1]
    assert redis_client.get(key) == stored


@pytest.mark.parametrize("kind", ["no JSON", "wrong type"])
def test_bytes_that_are_no_value_are_forgiven(
    kind: str, provider: Provider, server: RedisServer, redis_client: redis.Redis
) -> None:
    func = cached(provider, server)
    embed(func, "a")
    (key,) = redis_client.keys("*")
    redis_client.delete(key)
    redis_client.set(key, b"{") if kind == "no JSON" else redis_client.lpush(key, "x")
    before = counts()
    assert embed(func, "a").tobytes() == provider.vectors(["a"]).tobytes()
    assert len(provider.batches) == 2
    assert counted_since(before)["forgiven"] == 1
    assert counted_since(before)["hits"] == 0


def test_model_dimension_and_workspace_keep_vectors_apart(
    provider: Provider, server: RedisServer
) -> None:
    wide = Provider(dimension=DIMENSION + 1)
    for func in (
        cached(provider, server),
        cached(provider, server, model="other"),
        cached(provider, server, redis_workspace="acme"),
        cached(wide, server),
    ):
        embed(func, "a")
        embed(func, "a")
    assert (len(provider.batches), len(wide.batches)) == (3, 1)


def test_vectors_live_for_twelve_hours_or_as_long_as_is_said(
    provider: Provider, server: RedisServer, redis_client: redis.Redis
) -> None:
    cases: list[tuple[dict[str, Any], int]]
    cases = [({}, 43200), ({"redis_ttl": {"embedding_cache": 0}}, -1)]
    for settings, ttl in cases:
        redis_client.flushall()
        embed(cached(provider, server, **settings), "a")
        (key,) = redis_client.keys("nano_graphrag:embedding_cache:*")
        assert ttl - 10 <= redis_client.ttl(key) <= ttl


@pytest.mark.parametrize("policy", [None, "raise"])
def test_an_outage_costs_money_and_nothing_else(
    policy: str | None, provider: Provider, own_server: RedisServer
) -> None:
    func = cached(provider, own_server, redis_outage_policy=policy)
    embed(func, "a")
    before = counts()
    own_server.kill()
    for _ in range(10):
        assert embed(func, "a", "b").tobytes() == provider.vectors(["a", "b"]).tobytes()
    assert provider.batches[1:] == [["a", "b"]] * 10
    told = counted_since(before)
    assert told["forgiven"] == 20  # ten reads and ten writes
    assert (told["hits"], told["misses"]) == (0, 0)


def test_a_server_that_does_not_start_costs_money_and_nothing_else(
    provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    url = f"embedded://{tmp_path}/file"
    func = cache_embeddings(provider.func, {"redis_url": url}, model=MODEL)
    for _ in range(2):
        assert embed(func, "a").tobytes() == provider.vectors(["a"]).tobytes()
    assert "embeddings are not cached: " in caplog.text


def test_an_error_of_the_provider_is_the_callers_and_nothing_is_kept(
    provider: Provider, server: RedisServer
) -> None:
    func = cached(provider, server)
    embed(func, "a")
    provider.error = RuntimeError("quota")
    with pytest.raises(RuntimeError, match="quota"):
        embed(func, "a", "b")
    provider.error = None
    embed(func, "a", "b")
    assert provider.batches == [["a"], ["b"], ["b"]]


def test_what_is_no_batch_of_texts_is_the_providers_business(
    provider: Provider, server: RedisServer
) -> None:
    func = cached(provider, server)
    assert embed(func).shape == (0,)
    no_text: Any = 5
    with pytest.raises(AttributeError):
        embed(func, no_text)
    assert provider.batches == [[], [no_text]]


def test_the_hosts_copies_of_its_configuration_leave_it_working(
    provider: Provider, server: RedisServer, tmp_path: Path
) -> None:
    func = cached(provider, server)
    rag = GraphRAG(working_dir=str(tmp_path), embedding_func=func)
    copied = asdict(rag)
    assert rag.entities_vdb.embedding_func.embedding_dim == DIMENSION
    vectors = asyncio.run(rag.embedding_func(["a", "b"]))
    assert vectors.tobytes() == asyncio.run(copied["embedding_func"](["a", "b"])).tobytes()
    assert provider.batches == [["a", "b"]]
    assert (func.embedding_dim, func.max_token_size) == (DIMENSION, 8192)
    assert type(func) is EmbeddingFunc


def test_calls_at_once_in_several_loops_and_threads_are_served(
    provider: Provider, server: RedisServer
) -> None:
    func = cached(provider, server)
    texts = [f"text {number}" for number in range(64)]
    embed(func, *texts)
    expected = provider.vectors(texts)
    wrong: list[int] = []

    async def ask_often() -> None:
        got = await asyncio.gather(*(func(texts[n:] + texts[:n]) for n in range(16)))
        wrong.extend(
            n for n, each in enumerate(got) if each.tobytes() != np.roll(expected, -n, 0).tobytes()
        )

    threads = [threading.Thread(target=lambda: asyncio.run(ask_often())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(provider.batches) == 1


def test_a_forked_child_shares_what_its_parent_paid_for(server: RedisServer) -> None:
    script = """
    import numpy as np
    from nano_graphrag._utils import EmbeddingFunc
    from nano_graphrag_redis import cache_embeddings
    asked = []
    async def ask(texts):
        asked.append(texts)
        return np.array([[float(len(text))] for text in texts])
    func = EmbeddingFunc(embedding_dim=1, max_token_size=1, func=ask)
    func = cache_embeddings(func, {"redis_url": URL}, model="m")
    asyncio.run(func(["a"]))
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        asyncio.run(func(["a", "bb"]))
        sys.exit(0 if asked == [["a"], ["bb"]] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print(asyncio.run(func(["bb", "a"])).tolist(), asked)
    """
    assert run_script(script, server.url).cleanly() == "[[2.0], [1.0]] [['a']]\n"


def test_what_is_no_embedding_function_is_refused() -> None:
    with pytest.raises(TypeError, match="takes nano-graphrag's EmbeddingFunc"):
        cache_embeddings(len, model=MODEL)  # type: ignore[type-var]
    with pytest.raises(StorageConfigError, match="redis_worksapce"):
        cache_embeddings(Provider().func, {"redis_worksapce": "a"}, model=MODEL)


def test_the_hosts_files_are_none_of_its_business(provider: Provider, server: RedisServer) -> None:
    func = cached(provider, server, redis_dual_write=True)
    embed(func, "a")
    assert embed(func, "a").shape == (1, DIMENSION)
