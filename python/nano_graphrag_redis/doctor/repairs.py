"""The repairs: what can be fixed without deciding anything about data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import MUST_NOT_EXPIRE
from nano_graphrag_redis.wording import so_many

from .contents import interrupted
from .findings import Repaired, examples
from .patient import Patient
from .survey import DOCUMENTS, Progress, Survey, take


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
    with Patient(config, mends=True) as patient:
        survey = take(patient, progress)
        for mend in REPAIRS:
            yield from mend(patient, survey)


def _forget_interrupted(patient: Patient, survey: Survey) -> Iterator[Repaired]:
    ids = interrupted(patient, survey)
    if ids:
        count = patient.store(DOCUMENTS).delete_by_ids(ids)
        yield Repaired(
            "documents-without-chunks",
            f"forgot {so_many(count, 'document')} indexed half-way, to be inserted again",
            DOCUMENTS,
            examples(ids),
            count,
        )


def _let_live(patient: Patient, survey: Survey) -> Iterator[Repaired]:
    for namespace in MUST_NOT_EXPIRE:
        ids = survey.expiring[namespace]
        if ids and not patient.config.ttl_for(namespace):
            count = patient.store(namespace).persist(sorted(ids))
            yield Repaired(
                "ttl",
                f"let {so_many(count, 'id')} of {namespace} live for ever",
                namespace,
                examples(ids),
                count,
            )


def _register(patient: Patient, survey: Survey) -> Iterator[Repaired]:
    if not patient.config.redis_registry:
        return
    for namespace in sorted(survey.counts):
        store = patient.store(namespace)
        if store.registry_drift() not in {None, (0, 0)}:
            added, removed = store.repair()
            yield Repaired(
                "registry-drift",
                f"the registry of {namespace} got {so_many(added, 'id')} and lost {removed:,}",
                namespace,
                count=added + removed,
            )


REPAIRS: Final[tuple[Callable[[Patient, Survey], Iterator[Repaired]], ...]] = (
    _forget_interrupted,
    _let_live,
    _register,
)
