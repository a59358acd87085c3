"""How long one caller waits, alone and among 64: percentiles of single calls."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from statistics import quantiles
from time import perf_counter

from benches.measure import in_turn
from benches.payloads import Payloads
from benches.workload import Stores

CALLERS = (1, 64)
CALLS = 2_048  # of one round, all callers together
MIN_ROUNDS = 3

Call = Callable[[Stores, int], Awaitable[object]]


@dataclass
class Latency:
    """The calls of one kind that one peer answered to so many callers."""

    callers: int
    call: str
    peer: str
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    def percentile(self, percent: int) -> float:
        """Milliseconds within which that many of a hundred calls were answered."""
        return quantiles(self.seconds, n=100, method="inclusive")[percent - 1] * 1e3

    @property
    def throughput(self) -> float:
        """Calls a second, all callers together."""
        return len(self.seconds) / self.elapsed

    async def round(self, call: Call, stores: Stores) -> None:
        """All callers at once, each of them one call after another."""
        calls = CALLS // self.callers

        async def caller(number: int) -> None:
            for index in range(number * calls, (number + 1) * calls):
                start = perf_counter()
                await call(stores, index)
                self.seconds.append(perf_counter() - start)

        start = perf_counter()
        await asyncio.gather(*map(caller, range(self.callers)))
        self.elapsed += perf_counter() - start


def measure_latency(
    loop: asyncio.AbstractEventLoop,
    entrants: Mapping[str, Stores],
    payloads: Payloads,
    budget: float,
) -> list[Latency]:
    """Reads of chunks and writes of cached answers; `budget` is seconds for each kind."""
    chunks = list(payloads.text_chunks)
    answers = list(payloads.llm_response_cache.items())

    async def read(stores: Stores, index: int) -> object:
        return await stores.chunks.get_by_id(chunks[index % len(chunks)])

    async def write(stores: Stores, index: int) -> None:
        id, value = answers[index % len(answers)]
        await stores.answers.upsert({id: value})

    calls: dict[str, Call] = {"get_by_id": read, "upsert": write}
    return [
        latency
        for callers in CALLERS
        for name, call in calls.items()
        for latency in _interleaved(loop, entrants, callers, name, call, budget)
    ]


def _interleaved(
    loop: asyncio.AbstractEventLoop,
    entrants: Mapping[str, Stores],
    callers: int,
    name: str,
    call: Call,
    budget: float,
) -> list[Latency]:
    """The first round warms up and is dropped."""
    latencies = {peer: Latency(callers, name, peer) for peer in entrants}
    end = perf_counter() + budget
    number = 0
    while number <= MIN_ROUNDS or perf_counter() < end:
        # A collection in the middle would be somebody's 99th percentile, by chance.
        gc.collect()
        gc.disable()
        for peer in in_turn(entrants, number):
            latency = latencies[peer] if number > 0 else Latency(callers, name, peer)
            loop.run_until_complete(latency.round(call, entrants[peer]))
        gc.enable()
        number += 1
    return list(latencies.values())
