"""``migrate``: from the host's files to Redis."""

from __future__ import annotations

from nano_graphrag_redis._core import BlockingKvStore, FileWork

from .planning import look_over
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
    checked = [file]

    def copy() -> MigratedNamespace:
        # Taken, so that a second attempt reads the file over anew.
        last = (
            checked.pop() if checked else look_over(file.path, file.namespace, file.ttl, progress)
        )
        work = FileWork.copy(store, last.path, last.checked, dry_run)
        found = run(work, last.namespace, progress)
        found["refused"] = tuple(Refused(*refusal) for refusal in found["refused"])
        return MigratedNamespace(last.namespace, last.ids, **found)

    return steadily(file.path, copy)
