"""What may differ between the workers of a service: the backend, JSON or Redis, and the hash seed.

The host orders ties by string hash, so workers with different seeds build different prompts for the
same question, and a worker on JSON files shares nothing with those on Redis. Each exports both in
its metrics, and ``doctor`` compares them.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.typed_dicts import ProcessMetrics

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
    """The same in two processes that order strings alike: of one seed, and one hash algorithm.

    Eight bits tell two seeds apart, but for one pair in 256. More would tell a seed that is a
    secret to whoever reads the metrics: Python uses 24 bits of it, which are tried in a second.
    """
    return f"{hash(_HASHED) & 0xFF:08x}"


def hashes_are_random() -> bool:
    """Whether this process hashes strings with a random seed."""
    # Of 0 alone the flag tells that it was in force when the process started.
    if not sys.flags.hash_randomization:
        return False
    said = "" if sys.flags.ignore_environment else os.environ.get("PYTHONHASHSEED", "")
    return said in {"", "random", "0"}


def warn_of_random_hashes() -> None:
    """Warns once, in a process that shares answers with others, if those build other prompts."""
    if hashes_are_random():
        warn_once(
            "the LLM cache is shared, and the hash seed of this process is random: nano-graphrag "
            "orders ties by string hashes, so other workers make other prompts of the same "
            "question and pay for it again; start all of them with PYTHONHASHSEED=0"
        )
