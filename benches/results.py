"""What one run found, and the comparisons that the table and the plot both quote."""

from dataclasses import dataclass, field

from benches.growth import Curve
from benches.latency import Latency
from benches.limits import CODEC, SOCKET
from benches.measure import Series
from benches.memory import Growth
from benches.peers import FILES, OURS
from benches.workloads import Workload

STRAIGHTFORWARD = "straightforward"
POOL_SIZES = (STRAIGHTFORWARD, "straightforward-64")
# The columns, in the order of the report, and their titles. The two pool sizes share one.
COLUMNS = {
    OURS: "nano-graphrag-redis",
    STRAIGHTFORWARD: "straightforward: redis-py + json",
    "hand-tuned": "hand-tuned: redis-py + orjson",
    "glide": "valkey-glide + orjson",
    FILES: "JsonKVStorage",
}
RIVALS = (STRAIGHTFORWARD, "hand-tuned", "glide")


@dataclass(frozen=True)
class Timing:
    """One workload: a series of each peer and limit, and redis-benchmark's figure."""

    workload: Workload
    series: dict[str, Series]
    redis_benchmark: float | None
    """Microseconds of an item."""

    @property
    def pool_size(self) -> str | None:
        """Which of the two straightforward backends was faster here."""
        sizes = [name for name in POOL_SIZES if name in self.series]
        return min(sizes, key=lambda name: self.series[name].per_item, default=None)

    def column(self, name: str) -> Series | None:
        """The series of one column."""
        name = (self.pool_size or name) if name == STRAIGHTFORWARD else name
        return self.series.get(name)

    def against(self, rival: str) -> float | None:
        """How many times longer the rival takes than this library."""
        ours, theirs = self.column(OURS), self.column(rival)
        return theirs.ratio(ours) if ours and theirs else None

    @property
    def best_rival(self) -> str | None:
        """The fastest of the other Redis columns."""
        speeds = {name: each.per_item for name in RIVALS if (each := self.column(name))}
        return min(speeds, key=speeds.__getitem__, default=None)

    @property
    def floor(self) -> float | None:
        """Microseconds of an item: the bare socket, and orjson on top."""
        wire, text = self.series.get(SOCKET), self.series.get(CODEC)
        return wire.per_item + (text.per_item if text else 0) if wire else None


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
