"""``migrate``: from the host's files to Redis."""

from __future__ import annotations

from pathlib import Path

from nano_graphrag_redis._core import BlockingKvStore, FileWork
from nano_graphrag_redis.exceptions import JsonFileError

from .reports import Migrated, MigratedNamespace, Plan, PlannedFile, Refused, Report
from .work import configuration, opened, run, steadily


def migrate(plan: Plan, *, dry_run: bool = False, progress: Report | None = None) -> Migrated:
    """Copies what the files hold and the server does not hold yet, or holds otherwise.

    An id that is on the server already keeps its remaining time to live, whether its value was the
    same, and is left alone, or another, and is replaced. Values are compared as what ``json.loads``
    makes of them. Source files are read only, and may be written by the host meanwhile: a file
    that changes under the reader is begun again.

    Args:
        plan: What ``plan`` gave.
        dry_run: Compare only.
        progress: Told how far it is.

    Raises:
        JsonFileError: A file is damaged, or kept changing; what was copied until then is whole.
        StorageUnavailableError, StorageOperationError: The server failed. Run it again: it goes on
            where it was.
    """
    # A dry run does not note either whose the keyspace is.
    config = configuration(plan.config) if dry_run else plan.config
    done = []
    for file in plan.files:
        with opened(file.namespace, config, ttl=file.ttl) as store:
            done.append(_copy(store, file, dry_run, progress))
    return Migrated(tuple(done), dry_run)


def _copy(
    store: BlockingKvStore, file: PlannedFile, dry_run: bool, progress: Report | None
) -> MigratedNamespace:
    def copy(readable: Path) -> MigratedNamespace:
        ids = file.ids
        try:
            work = FileWork.copy(store, readable, file.checked, dry_run)
        except JsonFileError:  # it is another one than was planned
            check = FileWork.check(readable)
            ids = run(check, file.namespace, progress)["ids"]
            work = FileWork.copy(store, readable, check, dry_run)
        found = run(work, file.namespace, progress)
        found["refused"] = tuple(Refused(*refusal) for refusal in found["refused"])
        return MigratedNamespace(file.namespace, ids, **found)

    return steadily(file.path, copy)
