"""What one run found, and the comparisons that the table and the plot both quote."""

from dataclasses import dataclass, field

from benches.growth import Curve
from benches.latency import Latency
from benches.limits import CODEC, EVENT_LOOP, SOCKET
from benches.measure import Series
from benches.memory import Growth
from benches.peers import FILES, OURS
from benches.workload import Workload

STRAIGHTFORWARD, HAND_TUNED = "straightforward", "hand-tuned"
# The columns, in the order of the report, and their titles. Two pool sizes share one.
COLUMNS = {
    OURS: "nano-graphrag-redis",
    STRAIGHTFORWARD: "straightforward: redis-py + json",
    HAND_TUNED: "hand-tuned: redis-py + orjson",
    "glide": "valkey-glide + orjson",
    FILES: "JsonKVStorage",
}
RIVALS = (STRAIGHTFORWARD, HAND_TUNED, "glide")
POOL_SIZES = {column: (column, f"{column}-64") for column in (STRAIGHTFORWARD, HAND_TUNED)}
"""By column: the peer with a socket per caller, and the one with 64 sockets."""


def column_of(peer: str) -> str:
    """The column a peer belongs to."""
    return next((column for column, sizes in POOL_SIZES.items() if peer in sizes), peer)


def title(peer: str) -> str:
    """The peer's column, and which of its pool sizes this is."""
    sizes = POOL_SIZES.get(column_of(peer), (peer,))
    size = "" if len(sizes) == 1 else (", a socket per caller", ", 64 sockets")[sizes.index(peer)]
    return COLUMNS[column_of(peer)] + size


@dataclass(frozen=True)
class Timing:
    """One workload: a series of each peer and limit, and redis-benchmark's figure."""

    workload: Workload
    series: dict[str, Series]
    redis_benchmark: Series | None
    """Its runs, of one request each."""

    def fastest(self, column: str) -> str | None:
        """The peer that stands for the column: the one with the better pool size."""
        peers = [name for name in POOL_SIZES.get(column, (column,)) if name in self.series]
        return min(peers, key=lambda name: self.series[name].per_item, default=None)

    def column(self, name: str) -> Series | None:
        """The series of one column."""
        peer = self.fastest(name)
        return self.series[peer] if peer else None

    def against(self, rival: str) -> float | None:
        """How many times longer the rival takes than this library."""
        ours, theirs = self.column(OURS), self.column(rival)
        return theirs.ratio(ours) if ours and theirs else None

    @property
    def against_best(self) -> float | None:
        """The least of these ratios: that of the other Redis client which comes closest."""
        ratios = [ratio for name in RIVALS if (ratio := self.against(name)) is not None]
        return min(ratios, default=None)

    @property
    def in_turn(self) -> Series | None:
        """Of each round the bare socket, orjson after it, and the event loop's part."""
        if SOCKET not in self.series:
            return None
        parts = [self.series[name] for name in (SOCKET, CODEC, EVENT_LOOP) if name in self.series]
        rounds = zip(*(part.seconds for part in parts), strict=True)
        return Series(parts[0].items, [sum(each) for each in rounds])


def better_pools(latencies: list[Latency]) -> list[Latency]:
    """One of each column for each kind of call: that of the pool size with the lower median."""
    best: dict[tuple[int, str, str], Latency] = {}
    for one in latencies:
        kind = one.callers, one.call, column_of(one.peer)
        best[kind] = min(best.get(kind, one), one, key=lambda each: each.percentile(50))
    return list(best.values())


@dataclass
class Results:
    """Everything one run measured; what was not asked for is empty."""

    machine: dict[str, str]
    sizes: dict[str, int]
    """Mean bytes of a stored value, by namespace."""
    memory_per_byte: dict[str, float] = field(default_factory=dict)
    """Bytes the server spends on a stored byte, by namespace: key, value and bookkeeping."""
    timings: list[Timing] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    memory: list[Growth] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    load: str = ""
    """What other programs took meanwhile."""
