"""What a call of the benchmark is: what it runs on, what it moves, and what is timed of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from benches.measure import Action
from benches.payloads import Table, copy
from benches.peers import BlockingReader, Storage

CHUNKS, REPORTS, ANSWERS = "text_chunks", "community_reports", "llm_response_cache"

Command = Literal["GET", "SET", "EXISTS"]


@dataclass(frozen=True)
class Stores:
    """One peer's open storages, by namespace, and its blocking client of the chunks."""

    by_namespace: dict[str, Storage]
    blocking: BlockingReader | None
    near: Storage | None = None
    """Keeps local copies of the chunks, where the peer can."""

    @property
    def chunks(self) -> Storage:
        return self.by_namespace[CHUNKS]

    @property
    def reports(self) -> Storage:
        return self.by_namespace[REPORTS]

    @property
    def answers(self) -> Storage:
        return self.by_namespace[ANSWERS]


@dataclass(frozen=True)
class Traffic:
    """What a workload moves over the wire, whoever moves it: what the limits are measured on."""

    command: Command
    namespace: str
    ids: Sequence[str]
    together: int
    """How many requests are on their way at once; 1 is one after another."""
    one_call: bool = False
    """They are one call's, so they are no independent requests of as many callers."""
    in_threads: bool = False
    """Each of those on their way is of another thread, which blocks until it is answered."""


@dataclass(frozen=True)
class Workload:
    """A call, repeated. Times are quoted per item: per id, or per `llm-call`."""

    name: str
    title: str
    traffic: Traffic
    run: Callable[[Stores, Table], Awaitable[object]]
    values: Table = field(default_factory=dict)
    """What is written, a copy in each round: a host's values are new, and an encoder may be faster
    with strings it has seen before."""
    blocking: bool = False
    """Runs on the blocking client, so only with peers that have one."""
    files: bool = False
    """JsonKVStorage does comparable work here: it stores something."""
    mixed: bool = False
    """Sends other commands besides `traffic`, so no limit can be measured for it."""
    near: bool = False
    """Reads what local copies were made of, with peers that keep any."""

    def action(self, stores: Stores) -> Action:
        """One round on a peer's storages, with values of its own."""
        return partial(self.run, stores, copy(self.values))

    @property
    def items(self) -> int:
        return len(self.traffic.ids)
