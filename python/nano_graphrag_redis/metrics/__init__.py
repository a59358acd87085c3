"""Metrics for Prometheus: the core's counters, exposed through ``prometheus-client``.

Needs the extra ``prometheus``. The core always counts, at well under a microsecond per call. A
scrape reads the counters and sends no command to any server. In reading order:

- ``collector``: ``register``, and what a registry collects
- ``exposition``: a snapshot of the core's counters as metrics
- ``families``: the one list of their names

``nano_graphrag_redis.workers.merged_counters`` adds up the counters of several processes.
"""

from __future__ import annotations

from nano_graphrag_redis.metrics.collector import StorageCollector, register, unregister

__all__ = ["StorageCollector", "register", "unregister"]
