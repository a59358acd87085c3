"""The metrics: name, kind, meaning and labels of each.

A counter only grows while a process lives, whatever is opened and closed in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)


@dataclass(frozen=True)
class Family:
    """One metric, as it is named in a scrape.

    Attributes:
        name: With the ``_total`` of a counter.
        kind: What Prometheus takes it for.
        labels: The labels of each of its series.
        meaning: One sentence, the help text of a scrape.
        old_name: Under which it is scraped too, for one release.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    old_name: str | None = None

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
        "nano_graphrag_redis_operations_total",
        "counter",
        ("namespace", "operation", "status"),
        "Finished calls, by method and outcome: ok, forgiven by the outage policy, cancelled, "
        "raised by the caller's own code, or the kind of failure.",
        old_name="redis_operations_total",
    ),
    Family(
        "redis_operation_duration_seconds",
        "histogram",
        ("namespace", "operation"),
        "Duration of a call, including waiting, retries and decoding.",
    ),
    Family("redis_cache_hits_total", "counter", _NAMESPACE, "Reads of an id that had a value."),
    Family(
        "nano_graphrag_redis_cache_misses_total",
        "counter",
        _NAMESPACE,
        "Reads of an id that had no value.",
        old_name="redis_cache_misses_total",
    ),
    Family(
        "nano_graphrag_redis_value_bytes_total",
        "counter",
        ("namespace", "direction", "form"),
        "Bytes of values written and read, as JSON and as stored (after compression).",
        old_name="redis_value_bytes_total",
    ),
    Family(
        "nano_graphrag_redis_outage_drops_total",
        "counter",
        ("namespace", "class"),
        "Failures that the outage policy 'miss' turned into a miss or a dropped write, by kind.",
        old_name="redis_outage_drops_total",
    ),
    Family(
        "nano_graphrag_redis_near_cache_hits_total",
        "counter",
        _NAMESPACE,
        "Reads answered by the near cache.",
        old_name="redis_near_cache_hits_total",
    ),
    Family(
        "nano_graphrag_redis_near_cache_misses_total",
        "counter",
        _NAMESPACE,
        "Reads that went to the server although the near cache is on.",
        old_name="redis_near_cache_misses_total",
    ),
    Family(
        "nano_graphrag_redis_single_flight_leases_total",
        "counter",
        _NAMESPACE,
        "Misses whose caller took the lease, to call the provider while others wait.",
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
        "Misses that received another caller's answer: calls of the provider saved.",
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
        "nano_graphrag_redis_ttl_renewals_total",
        "counter",
        _NAMESPACE,
        "Values given their time to live anew under redis_ttl_sliding, since they were read.",
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
        "nano_graphrag_redis_changes_recorded_total",
        "counter",
        _NAMESPACE,
        "Writes that redis_changes has recorded in the namespace's stream.",
    ),
    Family(
        "nano_graphrag_redis_changes_lost_total",
        "counter",
        _NAMESPACE,
        "Writes whose entry the stream of redis_changes refused, or was not known to take.",
    ),
    Family(
        "redis_connection_pool_size",
        "gauge",
        ("server", "status"),
        "Open connections, busy or idle.",
    ),
    Family(
        "nano_graphrag_redis_connection_pool_max",
        "gauge",
        _SERVER,
        "Maximum number of open connections.",
        old_name="redis_connection_pool_max",
    ),
    Family(
        "nano_graphrag_redis_requests_in_flight",
        "gauge",
        _SERVER,
        "Requests waiting for a reply.",
        old_name="redis_requests_in_flight",
    ),
    Family(
        "nano_graphrag_redis_retries_total",
        "counter",
        _SERVER,
        "Retries of failed attempts.",
        old_name="redis_retries_total",
    ),
    Family(
        "nano_graphrag_redis_breaker_open",
        "gauge",
        _SERVER,
        "1 while the circuit breaker is open and calls fail at once.",
        old_name="redis_breaker_open",
    ),
    Family(
        "nano_graphrag_redis_breaker_transitions_total",
        "counter",
        ("server", "to"),
        "Times the circuit breaker opened and closed.",
        old_name="redis_breaker_transitions_total",
    ),
    Family(
        "nano_graphrag_redis_near_cache_max_bytes",
        "gauge",
        _SERVER,
        "Maximum size of the near cache in bytes.",
        old_name="redis_near_cache_max_bytes",
    ),
    Family(
        "nano_graphrag_redis_near_cache_bytes",
        "gauge",
        _SERVER,
        "Current size of the near cache in bytes.",
        old_name="redis_near_cache_bytes",
    ),
    Family(
        "nano_graphrag_redis_near_cache_values",
        "gauge",
        _SERVER,
        "Values in the near cache.",
        old_name="redis_near_cache_values",
    ),
    Family(
        "nano_graphrag_redis_near_cache_evictions_total",
        "counter",
        _SERVER,
        "Values evicted from the near cache to make room.",
        old_name="redis_near_cache_evictions_total",
    ),
    Family(
        "nano_graphrag_redis_near_cache_invalidations_total",
        "counter",
        _SERVER,
        "Changed keys reported by the server.",
        old_name="redis_near_cache_invalidations_total",
    ),
    Family(
        "redis_memory_usage_bytes",
        "gauge",
        _NAMESPACE,
        "Server memory used by the namespace, estimated from a background sample.",
    ),
    Family(
        "nano_graphrag_redis_keys",
        "gauge",
        _NAMESPACE,
        "Keys of the namespace, from the same sample; exact up to 10,000 keys in the database.",
        old_name="redis_keys",
    ),
    Family(
        "nano_graphrag_redis_evicted_keys_total",
        "counter",
        _SERVER,
        "Keys that the server has evicted since it started, including other programs' keys.",
        old_name="redis_evicted_keys_total",
    ),
    Family(
        "nano_graphrag_redis_sample_timestamp_seconds",
        "gauge",
        _SERVER,
        "Time of the last sample of memory, keys and evictions.",
        old_name="redis_census_timestamp_seconds",
    ),
    Family(
        "nano_graphrag_redis_up",
        "gauge",
        _SERVER,
        "1 if the server answered the last PING, which is sent in the background every 5 seconds.",
    ),
    Family(
        "nano_graphrag_redis_server_memory_bytes",
        "gauge",
        _SERVER,
        "Memory that the server uses for everything, from the last sample.",
    ),
    Family(
        "nano_graphrag_redis_server_memory_max_bytes",
        "gauge",
        _SERVER,
        "Memory that the server may use (maxmemory); absent while it has no limit.",
    ),
    Family(
        "nano_graphrag_redis_persistence_ok",
        "gauge",
        _SERVER,
        "1 if the server's last snapshot and its last write to the append-only file succeeded.",
    ),
    Family(
        "nano_graphrag_redis_workers",
        "gauge",
        ("backend", "hash_seed"),
        "Running processes, by the host's backend (redis or json) and a fingerprint of the "
        "hash seed.",
    ),
)

RENAMED: Final = {family.name: family.old_name for family in FAMILIES if family.old_name}
"""The old names of metrics, by the new ones: scraped beside them in 0.2, and gone in 0.3."""
