"""The figures of ``stats``: of the keyspace, of the server, and of the service's processes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nano_graphrag_redis import _core
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, LLM_CACHE, OF_EVERY_HOST
from nano_graphrag_redis.exceptions import StorageOperationError
from nano_graphrag_redis.migration.namespaces_and_foreign_keys import Foreign, Met, entries_of
from nano_graphrag_redis.migration.open_store import opened
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.typed_dicts import ProcessMetrics, SingleFlightStats
from nano_graphrag_redis.workers.counter_files import empty
from nano_graphrag_redis.workers.llm_cache_days_kept import Days
from nano_graphrag_redis.workers.merged_counters import merged

from .progress_bars import Bars

_SAMPLE: Final = 32
"""Values of a namespace that are read to see how well they are compressed."""

_OFTEN: Final = 1000
"""Keys met between two words to the bar."""


@dataclass(frozen=True)
class NamespaceFigures:
    """One namespace.

    Attributes:
        namespace: Its name.
        keys: The number of its keys.
        bytes: Their estimated memory on the server; None without permission to ask.
        ttl: The configured TTL in seconds; 0 for no expiry.
        compression: Bytes of JSON per stored byte; None for an empty namespace.
    """

    namespace: str
    keys: int
    bytes: int | None
    ttl: int
    compression: float | None


@dataclass(frozen=True)
class OperationFigures:
    """One operation of the service's processes, over their lives.

    Attributes:
        namespace: The namespace.
        operation: The method's name.
        calls: How often it was called.
        failed: How many calls failed or were forgiven.
        mean: Seconds a call took.
        p99: Seconds that 99 in 100 calls took at most, as far as the histogram tells.
    """

    namespace: str
    operation: str
    calls: int
    failed: int
    mean: float
    p99: float | None


@dataclass(frozen=True)
class Day:
    """The LLM calls of one day.

    Attributes:
        day: The date in UTC.
        asked: Answers that were asked for.
        saved: Those of them that came from the cache.
        money: What the saved ones would have cost; None without a price.
    """

    day: str
    asked: int
    saved: int
    money: float | None


@dataclass(frozen=True)
class Savings:
    """What the LLM cache saved.

    Attributes:
        asked: Answers that were asked for.
        saved: Those of them that came from the cache.
        price: What a call costs; None if nobody said.
        money: What the saved ones would have cost; None without a price.
        days: The same by day, the oldest first.
    """

    asked: int
    saved: int
    price: float | None
    money: float | None
    days: tuple[Day, ...]

    @classmethod
    def of(cls, hits: int, misses: int, price: float | None, days: Days) -> Savings:
        """From what the service's processes have counted."""

        def money(saved: int) -> float | None:
            return None if price is None else saved * price

        by_day = (
            (day, counts.get("hits", 0), counts.get("misses", 0))
            for day, counts in sorted(days.items())
        )
        return cls(
            hits + misses,
            hits,
            price,
            money(hits),
            tuple(Day(day, hit + missed, hit, money(hit)) for day, hit, missed in by_day),
        )


@dataclass(frozen=True)
class Figures:
    """All of them.

    Attributes:
        namespaces: Of the keyspace.
        server: What the server says of itself; empty where nobody may ask.
        operations: Of the service's processes; None where they write no counters.
        hits: Reads that found a value, by namespace; None likewise.
        misses: Reads that found none.
        connections: Open connections of the processes that run.
        llm: What the LLM cache saved; None where the processes write no counters.
        foreign_count: Keys under the prefix that no storage has made, in no namespace's figures.
        foreign: Some of them, as they may be shown.
        passed_over: Files in the directory of counters that could not be read, and why.
        single_flight: What single flight has counted, by name; None without counters.
    """

    namespaces: tuple[NamespaceFigures, ...]
    server: Mapping[str, float]
    operations: tuple[OperationFigures, ...] | None
    hits: Mapping[str, int] | None
    misses: Mapping[str, int] | None
    connections: int | None
    llm: Savings | None
    foreign_count: int = 0
    foreign: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    single_flight: Mapping[str, int] | None = None


def figures(
    config: RedisConfig, metrics_dir: Path | None, price: float | None, bars: Bars
) -> Figures:
    """Takes them all.

    Raises:
        StorageError: There is no server, or it failed.
        OSError: The directory of counters is there and cannot be read.
    """
    foreign = Foreign()
    namespaces = _namespaces(config, bars, foreign)
    server = _server(config)
    met = (foreign.count, foreign.examples)
    if metrics_dir is None:
        return Figures(namespaces, server, None, None, None, None, None, *met)
    passed_over: list[str] = []
    try:
        counted = merged(metrics_dir, passed_over)
    except FileNotFoundError:
        counted = {**empty(), "workers": [], "days": {}}
        passed_over.append(
            f"no process of the service has written to {visible(metrics_dir)} yet: it makes the "
            "directory with its first storage"
        )
    hits = {name: told["counts"].get("hits", 0) for name, told in counted["namespaces"].items()}
    misses = {name: told["counts"].get("misses", 0) for name, told in counted["namespaces"].items()}
    sets = (each for told in counted["servers"].values() for each in told["sets"])
    return Figures(
        namespaces,
        server,
        tuple(_operations(counted)),
        hits,
        misses,
        sum(each["connections"] for each in sets),
        Savings.of(hits.get(LLM_CACHE, 0), misses.get(LLM_CACHE, 0), price, counted["days"]),
        *met,
        tuple(passed_over),
        _single_flight(counted),
    )


def _single_flight(counted: ProcessMetrics) -> dict[str, int]:
    """The counters of the LLM cache that ``get_stats`` gives as ``single_flight``."""
    of_cache = counted["namespaces"].get(LLM_CACHE)
    counts = of_cache["counts"] if of_cache else {}
    return {
        name: counts.get(f"single_flight_{name}", 0) for name in SingleFlightStats.__annotations__
    }


def _namespaces(config: RedisConfig, bars: Bars, foreign: Foreign) -> tuple[NamespaceFigures, ...]:
    samples: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = dict.fromkeys(HOST_NAMESPACES, 0)
    seen = Met()
    for met, (namespace, id) in enumerate(entries_of(config, foreign), start=1):
        counts[namespace] = counts.get(namespace, 0) + seen.is_new((namespace, id))
        if len(samples[namespace]) < _SAMPLE:
            samples[namespace].add(id)
        if met % _OFTEN == 0:
            bars.tell("count", met, None, "keys")
    return tuple(
        _namespace(config, namespace, counts[namespace], sorted(samples[namespace]))
        for namespace in sorted(counts)
    )


def _namespace(
    config: RedisConfig, namespace: str, keys: int, sample: list[str]
) -> NamespaceFigures:
    before = _bytes_read(namespace)
    mean = None
    with opened(namespace, config) as store:
        for id in sample:
            # One that cannot be read, or is of another type, is the doctor's business.
            with suppress(StorageOperationError, ValueError):
                store.get_by_id(id)
        mean = store.memory(sample)
    json, stored = (now - then for now, then in zip(_bytes_read(namespace), before, strict=True))
    return NamespaceFigures(
        namespace,
        keys,
        None if mean is None else round(mean * keys),
        config.ttl_for(namespace),
        json / stored if stored else None,
    )


def _bytes_read(namespace: str) -> tuple[int, int]:
    """What this process has read of a namespace so far: bytes of JSON, and as stored."""
    told = _core.metrics()["namespaces"].get(namespace)
    counts = told["counts"] if told else {"json_bytes_read": 0, "stored_bytes_read": 0}
    return counts["json_bytes_read"], counts["stored_bytes_read"]


_ASKED: Final = {
    "used_memory": "memory",
    "maxmemory": "memory",
    "connected_clients": "clients",
    "instantaneous_ops_per_sec": "stats",
    "keyspace_hits": "stats",
    "keyspace_misses": "stats",
    "evicted_keys": "stats",
    "expired_keys": "stats",
}
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
"""What a server counts up to; more digits than these are no number of one."""


def _server(config: RedisConfig) -> dict[str, float]:
    """The sums over all primaries."""
    totals: dict[str, float] = {}
    with opened(OF_EVERY_HOST, config) as store, suppress(StorageOperationError):
        for section in sorted(set(_ASKED.values())):
            for _, text in store.info(section):
                for line in text.splitlines():
                    name, _, value = line.partition(":")
                    if name in _ASKED and _NUMBER.fullmatch(value.strip()):
                        totals[name] = totals.get(name, 0) + float(value)
    return totals


def _operations(counted: ProcessMetrics) -> list[OperationFigures]:
    return [
        OperationFigures(
            namespace,
            operation,
            calls := sum(told["statuses"].values()),
            calls - told["statuses"].get("ok", 0),
            told["seconds"] / calls,
            _quantile(told["histogram"], counted["bounds"], 0.99),
        )
        for namespace, of_namespace in sorted(counted["namespaces"].items())
        for operation, told in of_namespace["operations"].items()
        if any(told["statuses"].values())
    ]


def _quantile(calls: list[int], bounds: list[float], share: float) -> float | None:
    """The upper bound of the bucket that the share falls in; None beyond the last."""
    wanted, passed = share * sum(calls), 0
    for bound, number in zip(bounds, calls, strict=False):
        passed += number
        if passed >= wanted:
            return bound
    return None
