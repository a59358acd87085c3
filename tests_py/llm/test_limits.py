"""One limit for all: who takes a permit, what it costs, and that nothing of it fails a call."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage, StorageConfigError, SyncRedisKVStorage, limit_llm
from nano_graphrag_redis.llm import slot_renewal
from support.conditions import eventually
from support.scripts import run_script
from support.servers import RedisServer

from .model import MODEL, Model, counted_since, counts, until


def evaluations(server: RedisServer) -> int:
    """Scripts that the server has run."""
    statistics: Any = server.client().info("commandstats")
    return sum(
        told["calls"] for name, told in statistics.items() if name.startswith("cmdstat_eval")
    )


def test_a_cached_answer_takes_no_permit_and_a_miss_takes_one_with_one_command(
    model: Model, own_server: RedisServer
) -> None:
    settings = {"redis_url": own_server.url}
    limited = limit_llm(model.complete, settings, model=MODEL, requests_per_minute=60_000)

    async def ask() -> None:
        async with RedisKVStorage("llm_response_cache", settings) as cache:
            await limited("warm", hashing_kv=cache)  # the server learns the script
            before, run = counts(), evaluations(own_server)
            for _ in range(100):
                await asyncio.gather(*(limited("warm", hashing_kv=cache) for _ in range(100)))
            assert counted_since(before) == {"permits": 0, "local_permits": 0, "pauses": 0}
            assert evaluations(own_server) == run
            assert await limited("cold", hashing_kv=cache) == "answer to cold"
            assert counted_since(before)["permits"] == 1
            assert evaluations(own_server) == run + 1
            assert await cache.get_by_id("cold") == {"return": "answer to cold", "model": MODEL}

    asyncio.run(ask())
    assert len(model.asked) == 2


def test_a_function_that_looks_into_no_cache_is_limited_all_the_same(
    model: Model, server: RedisServer
) -> None:
    settings = {"redis_url": server.url}
    limited = limit_llm(model.answer, settings, model=MODEL, requests_per_minute=60_000)
    before = counts()

    async def ask() -> None:
        async with RedisKVStorage("llm_response_cache", settings) as cache:
            for number in range(5):
                await limited(f"{number}", hashing_kv=cache)  # the first shows it does not look
            await limited("without a cache")
            await limited("none", hashing_kv=None)

    asyncio.run(ask())
    assert counted_since(before)["permits"] == 6


def test_one_call_that_looks_into_no_cache_costs_cached_answers_no_permits(
    model: Model, server: RedisServer
) -> None:
    async def complete(prompt: str, **given: Any) -> str:
        return await (model.complete if prompt else model.answer)(prompt, **given)

    settings = {"redis_url": server.url}
    limited = limit_llm(complete, settings, model=MODEL, requests_per_minute=60_000)

    async def ask() -> None:
        async with RedisKVStorage("llm_response_cache", settings) as cache:
            await limited("cached", hashing_kv=cache)
            await limited("", hashing_kv=cache)
            # It takes one, since the call before it has looked nowhere.
            await limited("cached", hashing_kv=cache)
            before = counts()
            for _ in range(10):
                await limited("cached", hashing_kv=cache)
            assert counted_since(before)["permits"] == 0

    asyncio.run(ask())


def test_calls_start_at_the_rate_and_in_the_order_of_their_arrival(
    model: Model, server: RedisServer
) -> None:
    order: list[int] = []

    async def answer(number: int) -> None:
        order.append(number)
        await model.answer("")

    limited = limit_llm(answer, {"redis_url": server.url}, model=MODEL, requests_per_minute=1200)

    async def ask() -> None:
        await limited(-1)  # brings the server the script: whoever does comes later than those after
        order.clear()
        model.asked.clear()
        calls = []
        for number in range(60):
            calls.append(asyncio.ensure_future(limited(number)))
            await asyncio.sleep(0.001)
        await asyncio.gather(*calls)

    asyncio.run(ask())
    assert order == sorted(order)
    for first, later in zip(model.asked, model.asked[25:], strict=False):
        assert later - first > 0.2  # 20 at once, and 20 a second; 26 take a quarter of one
    assert model.asked[-1] - model.asked[0] > 1.9


def test_tokens_are_limited_and_settled_by_what_was_taken(server: RedisServer) -> None:
    started: list[float] = []

    async def answer(prompt: str, **_: Any) -> dict[str, Any]:
        started.append(time.monotonic())
        return {"text": "", "usage": {"total_tokens": 100}}

    limited = limit_llm(answer, {"redis_url": server.url}, model=MODEL, tokens_per_minute=60_000)

    async def ask() -> None:
        for _ in range(31):
            # Estimated at 1,000, which is a second's; 900 of them come back.
            await limited("x" * 400, max_tokens=900)
            await asyncio.to_thread(slot_renewal.give_back_all)

    asyncio.run(ask())
    taken = started[-1] - started[0]
    assert 1.5 < taken < 20  # 3,100 tokens, the first thousand at once; 31,000 would take 30 s


def test_a_call_that_asks_for_more_than_a_minute_has_waits_for_no_longer(
    model: Model, server: RedisServer
) -> None:
    limited = limit_llm(model.answer, {"redis_url": server.url}, model=MODEL, tokens_per_minute=600)
    before = counts()

    async def ask() -> None:
        # A minute's, of which a second's may be taken at once: it waits for 60 s, not for 28 hours.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limited("why?", max_tokens=1_000_000), 0.5)

    asyncio.run(ask())
    (key,) = server.client().keys("nano_graphrag:@limit:*")
    seconds, microseconds = server.client().time()
    reserved: Any = server.client().hget(key, "tokens")
    assert int(reserved) / 1e6 - (seconds + microseconds / 1e6) < 61
    assert counted_since(before) == {"permits": 0, "local_permits": 0, "pauses": 0}


@pytest.mark.parametrize("a_minute", [1e-300, Decimal(600), Fraction(600)], ids=str)
def test_a_limit_of_any_number_is_shared(
    a_minute: Any, model: Model, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    limited = limit_llm(
        model.answer, {"redis_url": server.url}, model=MODEL, requests_per_minute=a_minute
    )
    before = counts()
    assert asyncio.run(limited("why?")) == "answer to why?"
    assert counted_since(before) == {"permits": 1, "local_permits": 0, "pauses": 0}
    assert "not shared" not in caplog.text


def test_a_clock_that_is_set_back_keeps_nobody_waiting(model: Model, server: RedisServer) -> None:
    limited = limit_llm(
        model.answer,
        {"redis_url": server.url},
        model=MODEL,
        requests_per_minute=60_000,
        tokens_per_minute=6e6,
        concurrent=2,
    )
    before = counts()
    asyncio.run(limited("a"))
    client = server.client()
    (key,) = client.keys("nano_graphrag:@limit:*")
    # All that was written is an hour ahead of the clock, the slot of a killed holder too.
    state: Any = client.hgetall(key)
    ahead = {name: int(value) + 3_600_000_000 for name, value in state.items()}
    client.hset(key, mapping=ahead | {"s:of a killed process": max(ahead.values())})
    for prompt in "bcd":
        asyncio.run(asyncio.wait_for(limited(prompt), 5))
    assert counted_since(before) == {"permits": 4, "local_permits": 0, "pauses": 0}
    times = {name: int(value) for name, value in client.hgetall(key).items()}
    seconds, _ = client.time()
    assert max(times.values()) / 1e6 < seconds + 120


def test_no_more_calls_run_at_once_than_may(model: Model, server: RedisServer) -> None:
    model.seconds = 0.05
    limited = limit_llm(model.answer, {"redis_url": server.url}, model=MODEL, concurrent=3)

    async def ask() -> None:
        await asyncio.gather(*(limited(f"{number}") for number in range(30)))

    asyncio.run(ask())
    assert (len(model.asked), model.most_at_once) == (30, 3)


def test_a_call_that_fails_or_is_cancelled_gives_its_slot_back(
    model: Model, server: RedisServer
) -> None:
    limited = limit_llm(model.answer, {"redis_url": server.url}, model=MODEL, concurrent=1)

    async def ask() -> None:
        for number in range(10):
            model.error = RuntimeError("quota")
            with pytest.raises(RuntimeError, match="quota"):
                await limited("fails")
            model.error, model.seconds = None, 60
            call = asyncio.ensure_future(limited("is cancelled"))
            waiting = asyncio.ensure_future(limited("is cancelled while it waits"))
            await until(lambda: model.at_once > 0)
            for task in (call, waiting):
                task.cancel()
            ended = await asyncio.gather(call, waiting, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            model.seconds = 0
            assert await limited(f"{number}") == f"answer to {number}"

    began = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - began < slot_renewal.SLOT_TTL


def test_an_outage_leaves_each_worker_its_share_and_the_limit_is_shared_again(
    model: Model, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"redis_url": own_server.url, "redis_max_retries": 0}
    limited = limit_llm(model.answer, settings, model=MODEL, requests_per_minute=600, concurrent=4)
    # Another worker, so that this one's share is half.
    other = run_script(
        """
        from nano_graphrag_redis import limit_llm
        async def answer(prompt):
            return prompt
        limited = limit_llm(
            answer, {"redis_url": URL}, model="test-model", requests_per_minute=600, concurrent=4
        )
        asyncio.run(limited("here"))
        """,
        own_server.url,
    )
    other.cleanly()
    model.seconds = 0.02

    async def ask(count: int) -> None:
        await asyncio.gather(*(limited(f"{number}") for number in range(count)))

    asyncio.run(ask(1))
    before = counts()
    own_server.kill()
    model.asked.clear()
    model.most_at_once = 0
    asyncio.run(ask(20))
    assert counted_since(before)["local_permits"] == 20
    assert model.most_at_once <= 2
    assert model.asked[-1] - model.asked[0] > 2.5  # five at once, and five a second
    assert "each of 2 workers keeps to its part" in caplog.text
    own_server.start()
    eventually(lambda: asyncio.run(ask(1)) is None and counted_since(before)["permits"] > 0)
    assert "is shared again" in caplog.text


def test_a_silent_server_costs_all_that_wait_for_a_slot_one_timeout(
    model: Model, own_server: RedisServer
) -> None:
    settings = {
        "redis_url": own_server.url,
        "redis_operation_timeout": 1,
        "redis_breaker_failures": 100,
    }
    limited = limit_llm(model.answer, settings, model=MODEL, concurrent=16)

    async def ask() -> None:
        await limited("first")
        own_server.pause()
        began = time.monotonic()
        await asyncio.gather(*(limited(f"{number}") for number in range(16)))
        assert time.monotonic() - began < 3

    try:
        asyncio.run(ask())
    finally:
        own_server.resume()
    assert len(model.asked) == 17


def test_a_silent_server_holds_up_no_slot_on_another(
    model: Model, server: RedisServer, own_server: RedisServer
) -> None:
    def limit(url: str, concurrent: int) -> Any:
        settings = {"redis_url": url, "redis_operation_timeout": 2 * slot_renewal.SLOT_TTL}
        return limit_llm(model.answer, settings, model=MODEL, concurrent=concurrent)

    def expires(client: Any) -> float:
        [moment] = [
            float(value)
            for limit in client.keys("*@limit*")
            for name, value in client.hgetall(limit).items()
            if name.startswith(b"s:")
        ]
        return moment

    async def ask() -> None:
        model.seconds = 60
        call = asyncio.ensure_future(limit(server.url, 1)("long"))
        silent = asyncio.ensure_future(limit(own_server.url, 8)("is given back"))
        await until(lambda: model.at_once == 2)
        own_server.pause()
        silent.cancel()
        with server.client() as client:
            first = expires(client)
            await asyncio.to_thread(
                eventually, lambda: expires(client) > first, 2 * slot_renewal.RENEW_EVERY
            )
        call.cancel()
        await asyncio.gather(call, silent, return_exceptions=True)

    try:
        asyncio.run(ask())
    finally:
        own_server.resume()


def test_a_turn_that_is_too_far_off_is_taken_from_the_own_share(
    model: Model, server: RedisServer
) -> None:
    limited = limit_llm(
        model.answer, {"redis_url": server.url}, model=MODEL, requests_per_minute=0.05
    )
    before = counts()

    async def ask() -> None:
        for _ in range(2):
            await limited("why?")

    asyncio.run(ask())
    assert counted_since(before) == {"permits": 1, "local_permits": 1, "pauses": 0}


def test_a_server_that_refuses_or_forgets_the_script_fails_no_call(
    model: Model, server: RedisServer
) -> None:
    settings = {"redis_url": server.url}
    limited = limit_llm(model.answer, settings, model=MODEL, requests_per_minute=60_000)
    before = counts()
    asyncio.run(limited("a"))
    server.client().script_flush()
    asyncio.run(limited("b"))
    assert counted_since(before)["permits"] == 2
    (key,) = server.client().keys("nano_graphrag:@limit:*")
    server.client().set(key, "another program's")
    asyncio.run(limited("c"))
    assert counted_since(before)["local_permits"] == 1


def test_workspaces_have_limits_of_their_own_unless_they_share_them(
    model: Model, server: RedisServer
) -> None:
    for settings in (
        {},
        {"redis_workspace": "acme"},
        {"redis_workspace": "acme", "redis_shared_namespaces": "llm_limits"},
    ):
        limited = limit_llm(
            model.answer, {"redis_url": server.url, **settings}, model=MODEL, concurrent=9
        )
        asyncio.run(limited("a"))
    found: Any = server.client().keys("*limit*")
    keys = sorted(key.decode().rpartition(":")[0] for key in found)
    assert keys == ["nano_graphrag:@limit", "nano_graphrag@acme:@limit"]
    assert 0 < server.client().ttl(found[0]) < 3600


def test_a_call_that_is_cancelled_before_its_turn_gives_its_slot_back(
    model: Model, server: RedisServer
) -> None:
    limited = limit_llm(
        model.answer, {"redis_url": server.url}, model=MODEL, requests_per_minute=6, concurrent=1
    )
    others = limit_llm(model.answer, {"redis_url": server.url}, model=MODEL, concurrent=1)

    async def ask() -> None:
        await limited("has the only turn for now")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limited("is cancelled before its turn"), 0.2)
        assert await asyncio.wait_for(others("goes on"), slot_renewal.RENEW_EVERY)

    asyncio.run(ask())
    assert len(model.asked) == 2


def test_a_process_that_ends_gives_back_what_it_held(server: RedisServer) -> None:
    script = """
    from nano_graphrag_redis import limit_llm
    async def answer(prompt):
        return prompt
    limited = limit_llm(answer, {"redis_url": URL}, model="m", concurrent=1)
    asyncio.run(limited("a"))
    """
    for _ in range(5):
        run_script(script, server.url).cleanly()
        with server.client() as client:
            [limit] = client.keys("*@limit*")
            fields: Any = client.hgetall(limit)
            assert not [name for name in fields if name.startswith(b"s:")]


def test_several_loops_threads_and_a_forked_child_are_served(server: RedisServer) -> None:
    script = """
    from nano_graphrag_redis import limit_llm
    running, most = [0], [0]
    async def answer(number):
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.01)
        running[0] -= 1
        return number
    limited = limit_llm(answer, {"redis_url": URL}, model="m", concurrent=4)
    async def ask():
        assert await asyncio.gather(*map(limited, range(20))) == list(range(20))
    for _ in range(3):
        asyncio.run(ask())
    threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    pid = os.fork()
    signal.alarm(60)
    asyncio.run(ask())
    if pid == 0:
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print(most[0] <= 4)
    """
    assert run_script(script, server.url).cleanly() == "True\n"


def test_a_limit_that_is_none_is_refused(server: RedisServer) -> None:
    async def answer(prompt: str) -> str:
        return prompt

    async def stream(prompt: str) -> Any:
        yield prompt

    with pytest.raises(ValueError, match="at least one limit of requests_per_minute, tokens"):
        limit_llm(answer, model=MODEL)
    for number in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"requests_per_minute={number} must be above 0"):
            limit_llm(answer, model=MODEL, requests_per_minute=number)
    with pytest.raises(ValueError, match=r"requests_per_minute=1000.* must be above 0"):
        limit_llm(answer, model=MODEL, requests_per_minute=10**400)
    with pytest.raises(ValueError, match=r"concurrent=2\.5 must be a whole number"):
        limit_llm(answer, model=MODEL, concurrent=2.5)  # type: ignore[arg-type]
    for text in (True, "5"):
        with pytest.raises(TypeError, match="a limit must be a number"):
            limit_llm(answer, model=MODEL, concurrent=text)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an async function that gives an answer"):
        limit_llm(stream, model=MODEL, concurrent=1)
    with pytest.raises(StorageConfigError, match="redis_worksapce"):
        limit_llm(answer, {"redis_worksapce": "a"}, model=MODEL, concurrent=1)


def test_the_documents_are_none_of_its_business(model: Model, server: RedisServer) -> None:
    settings = {"redis_url": server.url, "redis_dual_write": True, "redis_outage_policy": "miss"}
    limited = limit_llm(model.answer, settings, model=MODEL, concurrent=1)
    assert asyncio.run(limited("a")) == "answer to a"
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as docs:
        assert docs.all_keys() == []
