"""The repairs: what can be fixed without deciding anything about data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import MUST_NOT_EXPIRE
from nano_graphrag_redis.doctor.checks.contents import interrupted
from nano_graphrag_redis.humanize import plural

from .findings import Repaired, examples
from .keyspace_scan import DOCUMENTS, KeyspaceScan, Progress, take
from .target import Target


def repair(config: RedisConfig, progress: Progress | None = None) -> Iterator[Repaired]:
    """Fixes what ``examine`` calls repairable. Safe to run again.

    Deletes documents that have no chunks, so that the host indexes them when they are inserted
    again; nobody may insert meanwhile. Removes the TTL from values of namespaces that must not
    expire. Corrects the registries. Changes nothing else: values that cannot be read stay, and so
    do chunks whose document is gone, because the graph may refer to them.

    Args:
        config: The service's settings; with ``redis_dual_write``, including the ``working_dir``
            whose files follow.
        progress: Called from time to time with the number of keys visited so far.

    Yields:
        Repairs as they are made.

    Raises:
        StorageError: The server is not there, went away, or refused a command.
        StorageConfigError: A setting is invalid.
    """
    with Target(config, mends=True) as target:
        keyspace = take(target, progress)
        for mend in REPAIRS:
            yield from mend(target, keyspace)


def _forget_interrupted(target: Target, keyspace: KeyspaceScan) -> Iterator[Repaired]:
    ids = interrupted(target, keyspace)
    if ids:
        count = target.store(DOCUMENTS).delete_by_ids(ids)
        yield Repaired(
            "documents-without-chunks",
            f"forgot {plural(count, 'document')} indexed half-way, to be inserted again",
            DOCUMENTS,
            examples(ids),
            count,
        )


def _let_live(target: Target, keyspace: KeyspaceScan) -> Iterator[Repaired]:
    for namespace in MUST_NOT_EXPIRE:
        ids = keyspace.expiring[namespace]
        if ids and not target.config.ttl_for(namespace):
            count = target.store(namespace).persist(sorted(ids))
            yield Repaired(
                "ttl",
                f"let {plural(count, 'id')} of {namespace} live for ever",
                namespace,
                examples(ids),
                count,
            )


def _register(target: Target, keyspace: KeyspaceScan) -> Iterator[Repaired]:
    if not target.config.redis_registry:
        return
    for namespace in sorted(keyspace.counts.keys() - keyspace.foreign_registries.keys()):
        store = target.store(namespace)
        if store.registry_drift() not in {None, (0, 0)}:
            added, removed = store.repair()
            yield Repaired(
                "registry-drift",
                f"the registry of {namespace} got {plural(added, 'id')} and lost {removed:,}",
                namespace,
                count=added + removed,
            )


REPAIRS: Final[tuple[Callable[[Target, KeyspaceScan], Iterator[Repaired]], ...]] = (
    _forget_interrupted,
    _let_live,
    _register,
)
