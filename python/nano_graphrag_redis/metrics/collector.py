"""``register``: the core's counters in a Prometheus registry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from nano_graphrag_redis import _core
from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.metrics.exposition import described, metrics_of
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.workers.backend_and_hash_seed import this_worker
from nano_graphrag_redis.workers.counter_files import empty
from nano_graphrag_redis.workers.counter_writer import SAMPLE_EVERY
from nano_graphrag_redis.workers.live_workers import counted
from nano_graphrag_redis.workers.merged_counters import merged

_registered: dict[CollectorRegistry, StorageCollector] = {}


class StorageCollector(Collector):
    """The counters of this process, read at each scrape without sending a command to any server.

    A forked child counts from zero, and its scrape covers that child only.

    Args:
        sample_every: Seconds between background samples of keys, memory and evictions.
    """

    def __init__(self, sample_every: float = SAMPLE_EVERY) -> None:
        self.sample_every = sample_every

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        # Asked at each scrape: a forked child has no background work until it asks for some.
        snapshot = _core.metrics(sample_every=self.sample_every)
        worker = this_worker(snapshot)
        workers = counted([worker] if worker else [])
        return metrics_of({**snapshot, "workers": workers, "days": {}})

    def describe(self) -> Iterable[Metric]:
        """The metrics without their numbers."""
        return described()


class DirectoryCollector(Collector):
    """The sum of what several processes have written to a directory; see ``merged_counters``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def collect(self) -> Iterable[Metric]:
        """The metrics as they were last written."""
        try:
            return metrics_of(merged(self.directory))
        except FileNotFoundError:
            # systemd removes it with the service, and makes it anew with the next start.
            where = visible(self.directory)
            warn_once(f"{where} is not there: no process of the service writes there")
            return metrics_of({**empty(), "workers": [], "days": {}})

    def describe(self) -> Iterable[Metric]:
        """The metrics without their numbers."""
        return described()


def directory_registry(directory: Path) -> CollectorRegistry:
    """A registry of what the processes that share ``directory`` count, and of nothing else."""
    registry = CollectorRegistry()
    registry.register(DirectoryCollector(directory))
    return registry


def register(registry: CollectorRegistry | None = None) -> StorageCollector:
    """Adds the metrics of every storage of this process to a registry. Idempotent.

    Args:
        registry: The registry; ``prometheus_client.REGISTRY``, the default one, if None.

    Returns:
        The registry's collector.

    Example:
        >>> from prometheus_client import CollectorRegistry, generate_latest
        >>> registry = CollectorRegistry()
        >>> _ = register(registry)
        >>> b"# TYPE nano_graphrag_redis_operations_total counter" in generate_latest(registry)
        True
    """
    registry = REGISTRY if registry is None else registry
    collector = _registered.get(registry)
    if collector is None:
        collector = StorageCollector()
        registry.register(collector)
        _registered[registry] = collector
        _core.metrics(sample_every=collector.sample_every)
    return collector


def unregister(registry: CollectorRegistry | None = None) -> None:
    """Removes the metrics from a registry; does nothing if it has none."""
    registry = REGISTRY if registry is None else registry
    collector = _registered.pop(registry, None)
    if collector is not None:
        registry.unregister(collector)
