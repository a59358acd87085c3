"""The metrics: name, meaning and labels of each, and how a snapshot becomes them.

A counter only grows while a process lives, whatever is opened and closed in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from nano_graphrag_redis.config.namespaces import LLM_CACHE, LLM_LIMITS
from nano_graphrag_redis.printable import visible

Snapshot = Mapping[str, Any]
"""What ``_core.metrics()`` gives, or the sum of several."""


@dataclass(frozen=True)
class Family:
    """One metric, as it is named in a scrape.

    Attributes:
        name: With the ``_total`` of a counter.
        kind: What Prometheus takes it for.
        labels: The labels of each of its series.
        meaning: One sentence, the help text of a scrape.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str

    def metric(self) -> Any:
        """The metric without series."""
        kinds = {
            "counter": CounterMetricFamily,
            "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        return kinds[self.kind](self.name, self.meaning, labels=self.labels)


_NAMESPACE: Final = ("namespace",)
_SERVER: Final = ("server",)

FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        "redis_operations_total",
        "counter",
        ("namespace", "operation", "status"),
        "Finished calls, by method and outcome: ok, forgiven by the outage policy, cancelled, "
        "raised by the caller's own code, or the kind of failure.",
    ),
    Family(
        "redis_operation_duration_seconds",
        "histogram",
        ("namespace", "operation"),
        "Duration of a call, including waiting, retries and decoding.",
    ),
    Family("redis_cache_hits_total", "counter", _NAMESPACE, "Reads of an id that had a value."),
    Family("redis_cache_misses_total", "counter", _NAMESPACE, "Reads of an id that had no value."),
    Family(
        "redis_value_bytes_total",
        "counter",
        ("namespace", "direction", "form"),
        "Bytes of values written and read, as JSON and as stored (after compression).",
    ),
    Family(
        "redis_outage_drops_total",
        "counter",
        ("namespace", "class"),
        "Failures that the outage policy 'miss' turned into a miss or a dropped write, by kind.",
    ),
    Family(
        "redis_near_cache_hits_total",
        "counter",
        _NAMESPACE,
        "Reads answered by the near cache.",
    ),
    Family(
        "redis_near_cache_misses_total",
        "counter",
        _NAMESPACE,
        "Reads that went to the server although the near cache is on.",
    ),
    Family(
        "nano_graphrag_redis_single_flight_leases_total",
        "counter",
        _NAMESPACE,
        "Misses whose caller took the lease, to call the LLM while others wait.",
    ),
    Family(
        "nano_graphrag_redis_single_flight_waits_total",
        "counter",
        _NAMESPACE,
        "Misses that waited for another caller's answer.",
    ),
    Family(
        "nano_graphrag_redis_single_flight_saved_total",
        "counter",
        _NAMESPACE,
        "Misses that received another caller's answer: LLM calls saved.",
    ),
    Family(
        "nano_graphrag_redis_single_flight_promoted_total",
        "counter",
        _NAMESPACE,
        "Misses that waited and then took over, because the caller before them had failed.",
    ),
    Family(
        "nano_graphrag_redis_single_flight_timed_out_total",
        "counter",
        _NAMESPACE,
        "Misses that waited for redis_single_flight_wait without an answer.",
    ),
    Family(
        "nano_graphrag_redis_single_flight_would_wait_total",
        "counter",
        _NAMESPACE,
        "Misses that would have waited if redis_single_flight were on; counted under 'observe'.",
    ),
    Family(
        "nano_graphrag_redis_llm_permits_total",
        "counter",
        ("source",),
        "Requests to language models that limit_llm permitted: from the limit that all workers "
        "share, or from this worker's part of it while that could not be asked.",
    ),
    Family(
        "nano_graphrag_redis_llm_permit_wait_seconds_total",
        "counter",
        (),
        "Time that requests to language models waited for a permit.",
    ),
    Family(
        "nano_graphrag_redis_llm_pauses_total",
        "counter",
        (),
        "Times that a provider answered 429 with Retry-After, so that all workers paused.",
    ),
    Family(
        "nano_graphrag_redis_deferred_drop_swaps_total",
        "counter",
        _NAMESPACE,
        "Times that an insert replaced all values under redis_deferred_drop.",
    ),
    Family(
        "nano_graphrag_redis_deferred_drop_kept_total",
        "counter",
        _NAMESPACE,
        "Deferred drops after which the insert wrote nothing, so that the old values stayed.",
    ),
    Family(
        "redis_connection_pool_size",
        "gauge",
        ("server", "status"),
        "Open connections, busy or idle.",
    ),
    Family(
        "redis_connection_pool_max",
        "gauge",
        _SERVER,
        "Maximum number of open connections.",
    ),
    Family("redis_requests_in_flight", "gauge", _SERVER, "Requests waiting for a reply."),
    Family("redis_retries_total", "counter", _SERVER, "Retries of failed attempts."),
    Family(
        "redis_breaker_open",
        "gauge",
        _SERVER,
        "1 while the circuit breaker is open and calls fail at once.",
    ),
    Family(
        "redis_breaker_transitions_total",
        "counter",
        ("server", "to"),
        "Times the circuit breaker opened and closed.",
    ),
    Family(
        "redis_near_cache_max_bytes", "gauge", _SERVER, "Maximum size of the near cache in bytes."
    ),
    Family("redis_near_cache_bytes", "gauge", _SERVER, "Current size of the near cache in bytes."),
    Family("redis_near_cache_values", "gauge", _SERVER, "Values in the near cache."),
    Family(
        "redis_near_cache_evictions_total",
        "counter",
        _SERVER,
        "Values evicted from the near cache to make room.",
    ),
    Family(
        "redis_near_cache_invalidations_total",
        "counter",
        _SERVER,
        "Changed keys reported by the server.",
    ),
    Family(
        "redis_memory_usage_bytes",
        "gauge",
        _NAMESPACE,
        "Server memory used by the namespace, estimated from a background sample.",
    ),
    Family(
        "redis_keys",
        "gauge",
        _NAMESPACE,
        "Keys of the namespace, from the same sample; exact up to 10,000 keys in the database.",
    ),
    Family(
        "redis_evicted_keys_total",
        "counter",
        _SERVER,
        "Keys that the server has evicted since it started, including other programs' keys.",
    ),
    Family(
        "redis_census_timestamp_seconds",
        "gauge",
        _SERVER,
        "Time of the last sample of memory, keys and evictions.",
    ),
    Family(
        "nano_graphrag_redis_workers",
        "gauge",
        ("backend", "hash_seed"),
        "Running processes, by the host's backend (redis or json) and a fingerprint of the "
        "hash seed.",
    ),
)

_BYTES: Final = {
    ("written", "json"): "json_bytes_written",
    ("written", "stored"): "stored_bytes_written",
    ("read", "json"): "json_bytes_read",
    ("read", "stored"): "stored_bytes_read",
}
_OF_SERVER: Final = {
    "redis_retries_total": "retries",
    "redis_near_cache_evictions_total": "near_cache_evictions",
    "redis_near_cache_invalidations_total": "near_cache_invalidations",
}
_OF_NAMESPACE: Final = {
    "redis_cache_hits_total": "hits",
    "redis_cache_misses_total": "misses",
    "redis_near_cache_hits_total": "near_cache_hits",
    "redis_near_cache_misses_total": "near_cache_misses",
    "nano_graphrag_redis_deferred_drop_swaps_total": "swaps",
    "nano_graphrag_redis_deferred_drop_kept_total": "drops_kept",
}
_OF_SINGLE_FLIGHT: Final = ("leases", "waits", "saved", "promoted", "timed_out", "would_wait")


def metrics_of(snapshot: Snapshot) -> list[Metric]:
    """The metrics of a snapshot, those without a series too."""
    metrics = {family.name: family.metric() for family in FAMILIES}
    for namespace, told in snapshot["namespaces"].items():
        _add_namespace(metrics, visible(namespace), told, snapshot["bounds"])
    for server, told in snapshot["servers"].items():
        _add_server(metrics, visible(server), told)
    for worker in snapshot.get("workers", ()):
        metrics["nano_graphrag_redis_workers"].add_metric(
            [worker["backend"], worker["hash_seed"]], worker["count"]
        )
    for namespace, (keys, memory) in census_of(snapshot).items():
        if keys is not None:
            metrics["redis_keys"].add_metric([visible(namespace)], keys)
        if memory is not None:
            metrics["redis_memory_usage_bytes"].add_metric([visible(namespace)], memory)
    return list(metrics.values())


def _add_namespace(
    metrics: Mapping[str, Any], namespace: str, told: Mapping[str, Any], bounds: Sequence[float]
) -> None:
    for operation, calls in told["operations"].items():
        for status, number in calls["statuses"].items():
            metrics["redis_operations_total"].add_metric([namespace, operation, status], number)
        metrics["redis_operation_duration_seconds"].add_metric(
            [namespace, operation],
            buckets=list(_cumulative(calls["histogram"], bounds)),
            sum_value=calls["seconds"],
        )
    counts = told["counts"]
    for name, count in _OF_NAMESPACE.items():
        metrics[name].add_metric([namespace], counts.get(count, 0))
    if namespace == LLM_CACHE:
        for what in _OF_SINGLE_FLIGHT:
            metrics[f"nano_graphrag_redis_single_flight_{what}_total"].add_metric(
                [namespace], counts.get(f"single_flight_{what}", 0)
            )
    if namespace == LLM_LIMITS:
        _add_limits(metrics, counts)
    for (direction, form), count in _BYTES.items():
        metrics["redis_value_bytes_total"].add_metric(
            [namespace, direction, form], counts.get(count, 0)
        )
    for kind, number in told["forgiven"].items():
        metrics["redis_outage_drops_total"].add_metric([namespace, kind], number)


def _add_limits(metrics: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    for source, count in (("shared", "permits"), ("local", "local_permits")):
        metrics["nano_graphrag_redis_llm_permits_total"].add_metric([source], counts.get(count, 0))
    waited = counts.get("permit_wait_milliseconds", 0) / 1000
    metrics["nano_graphrag_redis_llm_permit_wait_seconds_total"].add_metric([], waited)
    metrics["nano_graphrag_redis_llm_pauses_total"].add_metric([], counts.get("pauses", 0))


def _add_server(metrics: Mapping[str, Any], server: str, told: Mapping[str, Any]) -> None:
    counts, sets = told["counts"], told["sets"]
    for name, count in _OF_SERVER.items():
        metrics[name].add_metric([server], counts.get(count, 0))
    for state in ("open", "closed"):
        number = counts.get("breaker_opened" if state == "open" else "breaker_closed", 0)
        metrics["redis_breaker_transitions_total"].add_metric([server, state], number)
    busy = sum(each["busy_connections"] for each in sets)
    idle = sum(each["connections"] for each in sets) - busy
    metrics["redis_connection_pool_size"].add_metric([server, "busy"], busy)
    metrics["redis_connection_pool_size"].add_metric([server, "idle"], idle)
    gauges = {
        "redis_connection_pool_max": sum(each["max_connections"] for each in sets),
        "redis_requests_in_flight": sum(each["requests_in_flight"] for each in sets),
        "redis_breaker_open": int(any(each["breaker_open"] for each in sets)),
    }
    copies = [each["near_cache"] for each in sets if "near_cache" in each]
    for what in ("max_bytes", "bytes", "values"):
        gauges[f"redis_near_cache_{what}"] = sum(each.get(what, 0) for each in copies)
    for name, number in gauges.items():
        metrics[name].add_metric([server], number)
    newest = newest_census(sets)
    if newest is not None:
        metrics["redis_census_timestamp_seconds"].add_metric([server], newest["taken"])
        if newest["evicted_keys"] is not None:
            metrics["redis_evicted_keys_total"].add_metric([server], newest["evicted_keys"])


def _cumulative(calls: Sequence[int], bounds: Sequence[float]) -> Iterator[tuple[str, int]]:
    """Of each bucket, the calls that took no longer: as Prometheus has it."""
    total = 0
    for bound, number in zip([*map(str, bounds), "+Inf"], calls, strict=True):
        total += number
        yield bound, total


def newest_census(sets: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last look of those at one server."""
    taken = [each["census"] for each in sets if "census" in each]
    return max(taken, key=lambda census: census["taken"], default=None)


def census_of(snapshot: Snapshot) -> dict[str, tuple[float | None, float | None]]:
    """Keys and bytes of each namespace, over all servers."""
    shares: dict[str, tuple[float | None, float | None]] = {}
    for told in snapshot["servers"].values():
        # Sets that name a server alike may know other namespaces: of each, the newest look counts.
        of_server: dict[str, tuple[float | None, float | None]] = {}
        for census in sorted(
            (each["census"] for each in told["sets"] if "census" in each),
            key=lambda census: census["taken"],
        ):
            of_server.update(census["namespaces"])
        for namespace, share in of_server.items():
            before = shares.get(namespace, (0.0, 0.0))
            shares[namespace] = tuple(  # type: ignore[assignment]  # of two it makes two
                None if one is None or other is None else one + other
                for one, other in zip(before, share, strict=True)
            )
    return shares
