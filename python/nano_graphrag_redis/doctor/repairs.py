"""The repairs: what may be mended without deciding anything about data."""

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
    """Mends what ``examine`` calls repairable; may be run again.

    Documents without chunks are forgotten, so that the host indexes them when they are inserted
    again: nobody may be inserting meanwhile. Values of namespaces that must not expire lose their
    TTL. Registries are made right. Nothing else is deleted or changed: not a value that cannot be
    read, and not a chunk whose document is gone, since the graph may refer to it.

    Args:
        config: The settings, as the service has them; with ``redis_dual_write`` the ``working_dir``
            too, whose files follow.
        progress: Called now and then with the number of keys looked at so far.

    Yields:
        What was done, as it is done.

    Raises:
        StorageError: The server is not there, went away, or refused.
        StorageConfigError: A setting is wrong.
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
