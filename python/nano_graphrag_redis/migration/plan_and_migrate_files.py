"""``plan`` and ``migrate``: what is announced of the host's files, and their copying to Redis."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from nano_graphrag_redis._core import BlockingKvStore, FileWork, file_of
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.types_and_limits import LONGEST_TTL, check_name
from nano_graphrag_redis.exceptions import JsonFileError, StorageConfigError
from nano_graphrag_redis.humanize import plural, round_duration

from .export_and_fold_files import logs_in
from .find_host_files import check_names, files_in
from .open_store import Settings, configuration, opened
from .progress import Report, run
from .retry_changing_files import steadily


@dataclass(frozen=True)
class PlannedFile:
    """One file of the host, as it was when ``plan`` read it.

    Attributes:
        namespace: The namespace it holds.
        path: Its path.
        size: Its size in bytes.
        ids: The number of ids it holds.
        ttl: TTL in seconds for ids that are new on the server; 0 for no expiry.
        checked: What identifies this version of the file.
    """

    namespace: str
    path: Path
    size: int
    ids: int
    ttl: int
    checked: FileWork = field(repr=False, compare=False)


@dataclass(frozen=True)
class Plan:
    """What ``migrate`` will do.

    Attributes:
        directory: The host's ``working_dir``.
        config: The settings of the target.
        files: One for each namespace.
    """

    directory: Path
    config: RedisConfig
    files: tuple[PlannedFile, ...]

    @property
    def expiring(self) -> tuple[PlannedFile, ...]:
        """The files whose ids will expire on the server."""
        return tuple(file for file in self.files if file.ttl and file.ids)

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return sum(file.size for file in self.files)

    def notices(self) -> list[str]:
        """What to report before starting, one sentence each: how many ids will expire, and when."""
        return [
            f"{plural(file.ids, _noun(file))} of {file.namespace} will expire "
            f"{round_duration(file.ttl)} after being copied, what is on the server already when "
            "its own time is up"
            for file in self.expiring
        ]


def plan(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    ttl: int | None = None,
    working_dir: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
) -> Plan:
    """Reads the host's files completely, and says what ``migrate`` will do. Writes nothing.

    Args:
        directory: The host's ``working_dir``, which holds its ``kv_store_*.json``.
        settings: The settings of the server.
        namespaces: Only these; None for every file in the directory.
        ttl: TTL in seconds for ids that are new on the server, in place of each namespace's
            setting; 0 for no expiry.
        working_dir: The one of the host that is going to read from Redis, if ``directory`` is only
            a backup of it.
        progress: Called with the progress.

    Raises:
        JsonFileError: A file is damaged, or stays half-written because the host is writing it. Or
            it is behind its change log, so that newer data, there or on the server, would be lost.
        StorageConfigError: There is no such directory or file, a file's namespace cannot be part of
            a key, or a setting or ``ttl`` is invalid.
    """
    check_names(namespaces)
    directory = Path(directory).absolute()
    if ttl is not None and not 0 <= ttl <= LONGEST_TTL:
        raise StorageConfigError(f"ttl={ttl:.3g} must be from 0 to {LONGEST_TTL} seconds")
    config = configuration(settings, Path(working_dir or directory).absolute())
    for namespace in logs_in(directory):
        if namespaces is None or namespace in namespaces:
            raise JsonFileError(
                f"{file_of(directory, namespace)} is behind the log of changes that "
                "redis_dual_write has left beside it: run nano-graphrag-redis fold "
                f"--in {directory} first, or delete the log if the host has written the file since",
                namespace=namespace,
            )
    files = files_in(directory, namespaces)
    for namespace, path in files.items():
        _refuse_without_keys(namespace, path)
    return Plan(
        directory,
        config,
        tuple(
            _look_over(path, namespace, config.ttl_for(namespace) if ttl is None else ttl, progress)
            for namespace, path in files.items()
        ),
    )


def _refuse_without_keys(namespace: str, path: Path) -> None:
    """Refuses a file whose namespace no storage can have, before anything of others is written."""
    try:
        check_name(namespace)
    except ValueError as reason:
        raise StorageConfigError(
            f"{path}: the namespace {namespace!r} {reason}: name the others with --namespace, or "
            "rename the file",
            namespace=namespace,
        ) from None


def _look_over(path: Path, namespace: str, ttl: int, progress: Report | None) -> PlannedFile:
    def check(readable: Path) -> PlannedFile:
        work = FileWork.check(readable)
        found = run(work, namespace, progress)
        return PlannedFile(namespace, path, found["size"], found["ids"], ttl, work)

    return steadily(path, check)


def _noun(file: PlannedFile) -> str:
    return "answer" if file.namespace == "llm_response_cache" else "id"


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
