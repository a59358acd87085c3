"""``migrate``: from the host's files to Redis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nano_graphrag_redis._core import BlockingKvStore, FileWork
from nano_graphrag_redis.exceptions import JsonFileError

from .open_store import configuration, opened
from .plan_files import Plan, PlannedFile
from .progress import Report, run
from .retry_changing_files import steadily


@dataclass(frozen=True)
class Refused:
    """An id that was not copied; its file still has it.

    Attributes:
        id: The id.
        reason: Why it cannot be stored.
    """

    id: str
    reason: str


@dataclass(frozen=True)
class MigratedNamespace:
    """The result for one namespace; under ``dry_run``, what it would have been.

    Attributes:
        namespace: The namespace.
        ids: Number of ids in the file.
        written: Number of ids that were new on the server.
        replaced: Number of ids whose value differed; each kept its remaining TTL.
        unchanged: Number of ids that already had the same value.
        refused: Ids that cannot be stored, up to the first 1,000.
        refused_count: How many ids cannot be stored.
    """

    namespace: str
    ids: int
    written: int
    replaced: int
    unchanged: int
    refused: tuple[Refused, ...] = ()
    refused_count: int = 0


@dataclass(frozen=True)
class Migrated:
    """The result of ``migrate``.

    Attributes:
        namespaces: One for each.
        dry_run: Whether nothing was written.
    """

    namespaces: tuple[MigratedNamespace, ...]
    dry_run: bool

    @property
    def ok(self) -> bool:
        """Whether everything in the files is now on the server."""
        return not any(namespace.refused_count for namespace in self.namespaces)

    @property
    def written(self) -> int:
        """The number of ids written, new or replaced."""
        return sum(namespace.written + namespace.replaced for namespace in self.namespaces)


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
