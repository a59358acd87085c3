"""What may differ between the workers of a service: the hash seed, and JSON or Redis.

Workers with different seeds build different prompts for the same question, and a worker on JSON
files shares nothing with those on Redis. Each exports both in its metrics, and ``doctor`` compares
them.
"""

from __future__ import annotations

from typing import Final

from nano_graphrag_redis.shapes import ProcessMetrics

_HASHED: Final = "nano-graphrag-redis"

Worker = dict[str, str]
"""``backend``, which is ``redis`` or ``json``, and ``hash_seed``, a fingerprint."""

_on_json = False


def note_json() -> None:
    """Notes that the host keeps JSON files in this process."""
    global _on_json
    _on_json = True


def this_worker(snapshot: ProcessMetrics) -> Worker | None:
    """This process as a worker; None if it has neither a Redis storage nor a host on JSON.

    JSON counts where there are both: the host's own data is there.

    Args:
        snapshot: What ``_core.metrics()`` gives.
    """
    if not (_on_json or snapshot["namespaces"]):
        return None
    return {"backend": "json" if _on_json else "redis", "hash_seed": _fingerprint()}


def _fingerprint() -> str:
    """The same in two processes that order strings alike: of one seed, and one hash algorithm."""
    return f"{hash(_HASHED) & 0xFFFF_FFFF:08x}"
