"""Rounds and statistics: who is timed when, and what is quoted of it."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from statistics import median, quantiles
from time import perf_counter

Action = Callable[[], Awaitable[object]]
Preparation = Callable[[], Action]
"""Makes the action of one round; not timed."""

MIN_ROUNDS = 5
MAX_ROUNDS = 200
ASIDES = 5
FEW = 5  # rounds: with fewer there is no spread to speak of
NOISY = 0.4  # of the median, between the 10th and the 90th percentile


@dataclass(frozen=True)
class Series:
    """What one competitor took for one workload: seconds, a figure for each round."""

    items: int
    seconds: list[float]

    @property
    def per_item(self) -> float:
        """Median microseconds of an item."""
        return median(self.seconds) / self.items * 1e6

    @property
    def spread(self) -> tuple[float, float]:
        """Microseconds of an item: 10th and 90th percentile of the rounds."""
        if len(self.seconds) < 2:
            return self.per_item, self.per_item
        deciles = quantiles(self.seconds, n=10, method="inclusive")
        return deciles[0] / self.items * 1e6, deciles[-1] / self.items * 1e6

    @property
    def spread_known(self) -> bool:
        """Whether there were rounds enough to tell a spread."""
        return len(self.seconds) >= FEW

    @property
    def noisy(self) -> bool:
        """Whether the rounds disagree so much that only the order of magnitude counts."""
        low, high = self.spread
        return high - low > NOISY * self.per_item

    def ratio(self, other: "Series") -> float:
        """How many times longer this one took: the median over the rounds both were in.

        Two times of one round share the machine's mood, so their ratio is steadier than the ratio
        of the medians.
        """
        return median(self._ratios(other))

    def ratio_spread(self, other: "Series") -> tuple[float, float]:
        """10th and 90th percentile of the rounds' ratios."""
        ratios = self._ratios(other)
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        deciles = quantiles(ratios, n=10, method="inclusive")
        return deciles[0], deciles[-1]

    def _ratios(self, other: "Series") -> list[float]:
        pairs = zip(self.seconds, other.seconds, strict=True)
        return [mine / theirs for mine, theirs in pairs]


def in_turn(names: Iterable[str], number: int) -> list[str]:
    """The order of one round: shuffled, so that nobody always runs after the same neighbour.

    The same in every run, whatever ran before.
    """
    order = list(names)
    Random(number).shuffle(order)
    return order


def measure(
    loop: asyncio.AbstractEventLoop,
    entrants: Mapping[str, Preparation],
    items: int,
    budget: float,
    min_rounds: int = MIN_ROUNDS,
    aside: Callable[[], None] | None = None,
) -> dict[str, Series]:
    """Time all entrants in turn, round after round, until the budget (seconds) is spent.

    The first round warms up and is dropped. `aside` is what cannot take part in the rounds: it is
    called between them, five times spread over the budget.
    """
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    start = perf_counter()
    number = asides = 0
    while number <= min_rounds or (number <= MAX_ROUNDS and perf_counter() < start + budget):
        if aside and asides < ASIDES and perf_counter() >= start + asides * budget / ASIDES:
            aside()
            asides += 1
        for name in in_turn(entrants, number):
            elapsed = loop.run_until_complete(_timed(entrants[name]))
            if number > 0:
                seconds[name].append(elapsed)
        number += 1
    while aside and asides < ASIDES:
        aside()
        asides += 1
    return {name: Series(items, taken) for name, taken in seconds.items()}


async def _timed(prepare: Preparation) -> float:
    """Seconds of one action, without the garbage collector and without freeing the answers."""
    action = prepare()
    gc.collect()
    gc.disable()
    start = perf_counter()
    answers = await action()
    elapsed = perf_counter() - start
    gc.enable()
    del answers
    return elapsed
