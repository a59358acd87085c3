"""Types: of the values of a namespace, of settings, and of the dicts that are returned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any, Literal

from typing_extensions import NotRequired, TypedDict, TypeVar

Value = TypeVar("Value", default=Any)
"""The type of a namespace's values: any JSON value, unless the application narrows it."""

_Path = str | PathLike[str] | None
_Policy = Literal["raise", "miss", "json"]


class RedisSettings(TypedDict, total=False):
    """The settings by name, for ``global_config``, its ``addon_params`` and ``settings``.

    Declare a dict as this and your type checker refuses misspelt names and values of a wrong type.
    Ranges, URLs and settings that contradict each other are checked when a storage is made.
    """

    redis_url: str
    redis_cluster: bool
    redis_username: str | None
    redis_password: str | None
    redis_password_file: _Path
    redis_sentinel_master: str | None
    redis_sentinel_username: str | None
    redis_sentinel_password: str | None
    redis_tls_ca_file: _Path
    redis_tls_cert_file: _Path
    redis_tls_key_file: _Path
    redis_min_connections: int
    redis_max_connections: int
    redis_connection_timeout: float
    redis_socket_timeout: float
    redis_operation_timeout: float
    redis_prewarm_connections: bool
    redis_retry_on_timeout: bool
    redis_max_retries: int
    redis_health_check_interval: float
    redis_breaker_failures: int
    redis_breaker_recovery: float
    redis_outage_policy: _Policy | Mapping[str, _Policy]
    redis_ttl: Mapping[str, int]
    redis_ttl_sliding: bool
    redis_ttl_max_age: int
    redis_ttl_full_docs: int
    redis_ttl_text_chunks: int
    redis_ttl_community_reports: int
    redis_ttl_llm_response_cache: int
    redis_ttl_embedding_cache: int
    redis_key_prefix: str
    redis_workspace: str
    redis_shared_namespaces: Collection[str]
    redis_max_value_bytes: int
    redis_compression: Literal["none", "zstd", "lz4"]
    redis_compression_min_bytes: int
    redis_compression_level: int | None
    redis_near_cache_mb: int
    redis_single_flight: Literal["off", "observe", "on"]
    redis_single_flight_wait: float
    redis_cache_embeddings: Literal["off", "questions", "all"]
    redis_registry: bool
    redis_deferred_drop: bool
    redis_changes: bool
    redis_changes_name: str
    redis_durability: str
    redis_durability_timeout: float
    redis_dual_write: bool
    redis_metrics_dir: _Path
    redis_tracing: Literal["off", "on", "ids"]
    clear_on_start: bool
    working_dir: _Path


class NearCacheStats(TypedDict):
    """Statistics of the near cache: hits and misses of this namespace, the rest of all."""

    tracking: bool
    max_bytes: int
    bytes: int
    values: int
    hits: int
    misses: int
    evictions: int
    invalidations: int


class SingleFlightStats(TypedDict):
    """Statistics of ``redis_single_flight``."""

    leases: int
    waits: int
    saved: int
    promoted: int
    timed_out: int
    would_wait: int


class DualWriteStats(TypedDict):
    """Statistics of ``redis_dual_write``."""

    logged: int
    late: int
    folds: int


class DeferredDropStats(TypedDict):
    """Of ``redis_deferred_drop``."""

    swaps: int
    kept: int


class StorageStats(TypedDict):
    """Counts and sizes of a namespace; see ``RedisKVStorage.get_stats``."""

    namespace: str
    key_count: int
    ttl_seconds: int
    sample_memory_usage: int | None
    total_redis_memory: int | None
    json_bytes_written: int
    stored_bytes_written: int
    connections: int
    requests_in_flight: int
    retries: int
    breaker_open: bool
    forgiven: dict[str, int]
    served_from_files: int | None
    dual_write: DualWriteStats | None
    near_cache: NearCacheStats | None
    single_flight: SingleFlightStats | None
    ttl_renewals: int
    deferred_drop: DeferredDropStats | None


class OperationMetrics(TypedDict):
    """The calls of one operation on one namespace.

    ``statuses``: calls by outcome. ``histogram``: calls by duration, per bucket and not cumulative,
    with those above the last bound at the end. ``seconds``: what all of them took.
    """

    statuses: dict[str, int]
    histogram: list[int]
    seconds: float


class NamespaceMetrics(TypedDict):
    """What a process counted on one namespace.

    ``forgiven``: failures that were hidden from callers, by kind.
    """

    operations: dict[str, OperationMetrics]
    counts: dict[str, int]
    forgiven: dict[str, int]


class NearCacheSize(TypedDict):
    """How much the near cache of a set of connections holds, and may hold."""

    max_bytes: int
    bytes: int
    values: int


class ServerSample(TypedDict):
    """The last background sample of a server.

    ``taken``: seconds since 1970. ``namespaces``: keys and bytes of each, None where not known; a
    list where it was read from a file. What INFO says is absent where it was refused.
    """

    taken: float
    evicted_keys: NotRequired[int]
    used_memory: NotRequired[int]
    max_memory: NotRequired[int | None]
    persistence_ok: NotRequired[bool]
    namespaces: dict[str, tuple[float | None, float | None]]


class ConnectionSetMetrics(TypedDict):
    """The present state of connections that are in use with the same settings."""

    connections: int
    busy_connections: int
    max_connections: int
    requests_in_flight: int
    breaker_open: bool
    near_cache: NotRequired[NearCacheSize]
    up: NotRequired[bool]
    sample: NotRequired[ServerSample]


class ServerMetrics(TypedDict):
    """What a process counted on one server, and each set of connections to it."""

    counts: dict[str, int]
    sets: list[ConnectionSetMetrics]


class ProcessMetrics(TypedDict):
    """The counters of a process, or the sum of several.

    ``bounds``: the upper bounds of the histograms' buckets, in seconds.
    """

    bounds: list[float]
    namespaces: dict[str, NamespaceMetrics]
    servers: dict[str, ServerMetrics]


class WorkerCount(TypedDict):
    """How many live workers have one backend and one hash seed."""

    backend: str
    hash_seed: str
    count: int


class ServiceMetrics(ProcessMetrics):
    """The sum over the processes of a service.

    ``days``: reads of the LLM cache, ``hits`` and ``misses``, by day in UTC (``2026-11-28``).
    """

    workers: list[WorkerCount]
    days: dict[str, dict[str, int]]
