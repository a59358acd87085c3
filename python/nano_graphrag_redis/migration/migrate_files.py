"""``migrate``: from the host's files to Redis."""

from __future__ import annotations

from pathlib import Path

from nano_graphrag_redis._core import BlockingKvStore, FileWork
from nano_graphrag_redis.exceptions import JsonFileError

from .open_store import configuration, opened
from .progress import Report, run
from .results import Migrated, MigratedNamespace, Plan, PlannedFile, Refused
from .retry_changing_files import steadily


def migrate(plan: Plan, *, dry_run: bool = False, progress: Report | None = None) -> Migrated:
    """Copies the values that the server lacks or that differ there.

    An id that is already on the server keeps its remaining TTL. If its value is the same it is
    left alone, otherwise it is replaced. Values are compared as ``json.loads`` returns them. Source
    files are only read, and the host may write them meanwhile: if a file changes while it is
    read, reading starts over.

    Args:
        plan: The result of ``plan``.
        dry_run: Only compare.
        progress: Called with the progress.

    Raises:
        JsonFileError: A file is damaged or kept changing. Values copied so far are complete.
        StorageUnavailableError, StorageOperationError: The server failed. Run it again to
            continue.
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
