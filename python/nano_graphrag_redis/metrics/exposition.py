"""A snapshot of the counters as the metrics of a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Final, Literal

from prometheus_client.core import Metric

from nano_graphrag_redis.config.namespaces import LLM_CACHE, LLM_LIMITS
from nano_graphrag_redis.metrics.families import FAMILIES, RENAMED
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.typed_dicts import (
    ConnectionSetMetrics,
    NamespaceMetrics,
    ProcessMetrics,
    ServerMetrics,
    ServerSample,
    ServiceMetrics,
)

_BYTES: Final = {
    ("written", "json"): "json_bytes_written",
    ("written", "stored"): "stored_bytes_written",
    ("read", "json"): "json_bytes_read",
    ("read", "stored"): "stored_bytes_read",
}
_OF_SERVER: Final = {
    "nano_graphrag_redis_retries_total": "retries",
    "nano_graphrag_redis_near_cache_evictions_total": "near_cache_evictions",
    "nano_graphrag_redis_near_cache_invalidations_total": "near_cache_invalidations",
}
_OF_SAMPLE: Final[
    dict[str, Literal["evicted_keys", "used_memory", "max_memory", "persistence_ok"]]
] = {
    "nano_graphrag_redis_evicted_keys_total": "evicted_keys",
    "nano_graphrag_redis_server_memory_bytes": "used_memory",
    "nano_graphrag_redis_server_memory_max_bytes": "max_memory",
    "nano_graphrag_redis_persistence_ok": "persistence_ok",
}
_OF_NAMESPACE: Final = {
    "redis_cache_hits_total": "hits",
    "nano_graphrag_redis_cache_misses_total": "misses",
    "nano_graphrag_redis_near_cache_hits_total": "near_cache_hits",
    "nano_graphrag_redis_near_cache_misses_total": "near_cache_misses",
    "nano_graphrag_redis_deferred_drop_swaps_total": "swaps",
    "nano_graphrag_redis_deferred_drop_kept_total": "drops_kept",
    "nano_graphrag_redis_changes_recorded_total": "changes_recorded",
    "nano_graphrag_redis_changes_lost_total": "changes_lost",
    "nano_graphrag_redis_ttl_renewals_total": "ttl_renewals",
}
_OF_SINGLE_FLIGHT: Final = ("leases", "waits", "saved", "promoted", "timed_out", "would_wait")


def metrics_of(snapshot: ServiceMetrics) -> list[Metric]:
    """The metrics of a snapshot, those without a series too."""
    metrics = {family.name: family.metric() for family in FAMILIES}
    for namespace, told in snapshot["namespaces"].items():
        _add_namespace(metrics, label(namespace), told, snapshot["bounds"])
    for server, of_server in snapshot["servers"].items():
        _add_server(metrics, label(server), of_server)
    for worker in snapshot["workers"]:
        metrics["nano_graphrag_redis_workers"].add_metric(
            [worker["backend"], worker["hash_seed"]], worker["count"]
        )
    for namespace, (keys, memory) in namespaces_sampled(snapshot).items():
        if keys is not None:
            metrics["nano_graphrag_redis_keys"].add_metric([label(namespace)], keys)
        if memory is not None:
            metrics["redis_memory_usage_bytes"].add_metric([label(namespace)], memory)
    return [
        *metrics.values(),
        *(_under_old_name(metrics[new], old) for new, old in RENAMED.items()),
    ]


def label(name: str) -> str:
    r"""A name as a label, another one for each: two series of one label make a scrape fail.

    >>> print(label("a\nb"), label(r"a\nb"))
    a\nb a\\nb
    """
    return visible(name.replace("\\", r"\\"))


def described() -> list[Metric]:
    """The metrics without their series, old names too."""
    metrics = {family.name: family.metric() for family in FAMILIES}
    return [
        *metrics.values(),
        *(_under_old_name(metrics[new], old) for new, old in RENAMED.items()),
    ]


def _under_old_name(metric: Any, old: str) -> Metric:
    """The same series under the name of the last release, for dashboards that still ask for it."""
    alias = copy(metric)
    alias.name = old.removesuffix("_total")
    alias.documentation = f"Deprecated: use {metric.name}. {metric.documentation}"
    alias.samples = [
        sample._replace(name=sample.name.replace(metric.name, alias.name, 1))
        for sample in metric.samples
    ]
    renamed: Metric = alias
    return renamed


def _add_namespace(
    metrics: Mapping[str, Any], namespace: str, told: NamespaceMetrics, bounds: Sequence[float]
) -> None:
    for operation, calls in told["operations"].items():
        for status, number in calls["statuses"].items():
            metrics["nano_graphrag_redis_operations_total"].add_metric(
                [namespace, operation, status], number
            )
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
        metrics["nano_graphrag_redis_value_bytes_total"].add_metric(
            [namespace, direction, form], counts.get(count, 0)
        )
    for kind, number in told["forgiven"].items():
        metrics["nano_graphrag_redis_outage_drops_total"].add_metric([namespace, kind], number)


def _add_limits(metrics: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    for source, count in (("shared", "permits"), ("local", "local_permits")):
        metrics["nano_graphrag_redis_llm_permits_total"].add_metric([source], counts.get(count, 0))
    waited = counts.get("permit_wait_milliseconds", 0) / 1000
    metrics["nano_graphrag_redis_llm_permit_wait_seconds_total"].add_metric([], waited)
    metrics["nano_graphrag_redis_llm_pauses_total"].add_metric([], counts.get("pauses", 0))


def _add_server(metrics: Mapping[str, Any], server: str, told: ServerMetrics) -> None:
    counts, sets = told["counts"], told["sets"]
    for name, count in _OF_SERVER.items():
        metrics[name].add_metric([server], counts.get(count, 0))
    for state in ("open", "closed"):
        number = counts.get("breaker_opened" if state == "open" else "breaker_closed", 0)
        metrics["nano_graphrag_redis_breaker_transitions_total"].add_metric([server, state], number)
    busy = sum(each["busy_connections"] for each in sets)
    idle = sum(each["connections"] for each in sets) - busy
    metrics["redis_connection_pool_size"].add_metric([server, "busy"], busy)
    metrics["redis_connection_pool_size"].add_metric([server, "idle"], idle)
    gauges = {
        "nano_graphrag_redis_connection_pool_max": sum(each["max_connections"] for each in sets),
        "nano_graphrag_redis_requests_in_flight": sum(each["requests_in_flight"] for each in sets),
        "nano_graphrag_redis_breaker_open": int(any(each["breaker_open"] for each in sets)),
    }
    copies = [each["near_cache"] for each in sets if "near_cache" in each]
    sizes: tuple[Literal["max_bytes", "bytes", "values"], ...] = ("max_bytes", "bytes", "values")
    for what in sizes:
        gauges[f"nano_graphrag_redis_near_cache_{what}"] = sum(each.get(what, 0) for each in copies)
    for name, number in gauges.items():
        metrics[name].add_metric([server], number)
    up = [each["up"] for each in sets if "up" in each]
    if up:
        metrics["nano_graphrag_redis_up"].add_metric([server], int(all(up)))
    newest = newest_sample(sets)
    if newest is not None:
        metrics["nano_graphrag_redis_sample_timestamp_seconds"].add_metric(
            [server], newest["taken"]
        )
        for name, figure in _OF_SAMPLE.items():
            if (told_of := newest.get(figure)) is not None:
                metrics[name].add_metric([server], int(told_of))


def _cumulative(calls: Sequence[int], bounds: Sequence[float]) -> Iterator[tuple[str, int]]:
    """Of each bucket, the calls that took no longer: as Prometheus has it."""
    total = 0
    for bound, number in zip([*map(str, bounds), "+Inf"], calls, strict=True):
        total += number
        yield bound, total


def newest_sample(sets: Sequence[ConnectionSetMetrics]) -> ServerSample | None:
    """The newest sample of one server."""
    taken = [each["sample"] for each in sets if "sample" in each]
    return max(taken, key=lambda sample: sample["taken"], default=None)


def namespaces_sampled(snapshot: ProcessMetrics) -> dict[str, tuple[float | None, float | None]]:
    """Keys and bytes of each namespace, over all servers."""
    shares: dict[str, tuple[float | None, float | None]] = {}
    for told in snapshot["servers"].values():
        # Sets of one server may know other namespaces: of each, the newest sample counts.
        of_server: dict[str, tuple[float | None, float | None]] = {}
        for sample in sorted(
            (each["sample"] for each in told["sets"] if "sample" in each),
            key=lambda sample: sample["taken"],
        ):
            of_server.update(sample["namespaces"])
        for namespace, share in of_server.items():
            before = shares.get(namespace, (0.0, 0.0))
            shares[namespace] = tuple(  # type: ignore[assignment]  # of two it makes two
                None if one is None or other is None else one + other
                for one, other in zip(before, share, strict=True)
            )
    return shares
