"""Types: of the values of a namespace, and of what ``get_stats`` returns."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict, TypeVar

Value = TypeVar("Value", default=Any)
"""The type of a namespace's values: any JSON value, unless the application narrows it."""


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
    deferred_drop: DeferredDropStats | None
