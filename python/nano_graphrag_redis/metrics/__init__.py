"""Metrics for Prometheus: what the core counts, in the exposition format of ``prometheus-client``.

Needs the extra ``prometheus``. Counting itself goes on always and costs well under a microsecond a
call; a scrape reads the counters and asks no server anything. In reading order:

- ``collector``: ``register``, and what a registry collects
- ``families``: a snapshot of the core's counters as metrics, the one list of their names

``nano_graphrag_redis.snapshots`` adds up what several processes count.
"""

from __future__ import annotations

from nano_graphrag_redis.metrics.collector import StorageCollector, register, unregister

__all__ = ["StorageCollector", "register", "unregister"]
