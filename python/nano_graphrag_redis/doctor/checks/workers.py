"""The check of the service's processes: whether they share what they store and what they ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nano_graphrag_redis.doctor.findings import Finding, Severity
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.workers.live_workers import workers


def examine_workers(directory: Path) -> Iterator[Finding]:
    """Compares the workers that write their counters to ``directory`` now."""
    where = visible(directory)
    try:
        running = workers(directory)
    except FileNotFoundError:
        running = []
    except OSError as error:
        yield Finding(
            "workers",
            Severity.WARNING,
            f"not looked at: the workers, because {where} cannot be read: {error.strerror}",
            why="workers on JSON files, or with different hash seeds, go unnoticed",
            remedy="examine it as a user who may read the directory that REDIS_METRICS_DIR names",
        )
        return
    total = sum(each["count"] for each in running)
    if not total:
        yield Finding("workers", Severity.OK, f"no worker writes its counters to {where} now")
        return
    on_json = sum(each["count"] for each in running if each["backend"] == "json")
    seeds = {each["hash_seed"] for each in running}
    if on_json:
        yield Finding(
            "workers-on-json",
            Severity.ERROR if on_json < total else Severity.WARNING,
            f"{on_json} of {plural(total, 'worker')} on JSON files",
            why="what such a worker stores, and the answers that it paid for, no other worker sees",
            remedy="start each with STORAGE_KV_BACKEND=redis, under `nano-graphrag-redis run` or "
            "with a call of register()",
        )
    if len(seeds) > 1:
        yield Finding(
            "workers-hash-seeds",
            Severity.WARNING,
            f"{plural(total, 'worker')} with {len(seeds)} different hash seeds",
            why="nano-graphrag orders ties by string hashes, so they make different prompts of one "
            "question, and each pays for its own answer",
            remedy="start all of them with PYTHONHASHSEED=0, as `nano-graphrag-redis run` does, "
            "and with one version of Python",
        )
    if not on_json and len(seeds) == 1:
        yield Finding(
            "workers", Severity.OK, f"{plural(total, 'worker')} on Redis, with one hash seed"
        )
