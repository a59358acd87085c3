"""``register``: the core's counters in a Prometheus registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from nano_graphrag_redis import _core
from nano_graphrag_redis.metrics.families import FAMILIES, metrics_of

CENSUS_EVERY: Final = 60.0
"""Seconds between two looks at memory, keys and evictions, in the background."""

_registered: dict[CollectorRegistry, StorageCollector] = {}


class StorageCollector(Collector):
    """The counters of this process, read anew at each scrape; no server is asked anything then.

    A forked child counts from zero, and its scrape tells of it alone.

    Args:
        census_every: Seconds between two looks at what lies on the servers, in the background.
    """

    def __init__(self, census_every: float = CENSUS_EVERY) -> None:
        self.census_every = census_every

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        # Asked at each scrape: a forked child has no background work until it asks for some.
        return metrics_of(_core.metrics(census_every=self.census_every))

    def describe(self) -> Iterable[Metric]:
        """The metrics without their numbers."""
        return [family.metric() for family in FAMILIES]


def register(registry: CollectorRegistry | None = None) -> StorageCollector:
    """Adds the metrics of every storage of this process to a registry; again, it changes nothing.

    Args:
        registry: The registry; ``prometheus_client.REGISTRY``, the default one, when None.

    Returns:
        The collector that the registry has.

    Example:
        >>> from prometheus_client import CollectorRegistry, generate_latest
        >>> registry = CollectorRegistry()
        >>> _ = register(registry)
        >>> b"# TYPE redis_operations_total counter" in generate_latest(registry)
        True
    """
    registry = REGISTRY if registry is None else registry
    collector = _registered.get(registry)
    if collector is None:
        collector = StorageCollector()
        registry.register(collector)
        _registered[registry] = collector
        _core.metrics(census_every=collector.census_every)
    return collector


def unregister(registry: CollectorRegistry | None = None) -> None:
    """Takes the metrics out of a registry again; one that has none is left alone."""
    registry = REGISTRY if registry is None else registry
    collector = _registered.pop(registry, None)
    if collector is not None:
        registry.unregister(collector)
