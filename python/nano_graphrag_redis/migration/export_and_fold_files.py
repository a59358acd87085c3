"""``export`` and ``fold``: from Redis, or from a log of changes, to the host's files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_graphrag_redis._core import FileWork, file_of
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.exceptions import StorageConfigError

from .find_host_files import all_files_in, check_names
from .namespaces_and_foreign_keys import Foreign, entries_of, namespaces_of
from .open_store import Settings, configuration, opened
from .progress import Report, run

_LOG_NAME = re.compile(r"kv_store_(.+)\.changes(\.folding)?", re.DOTALL)


@dataclass(frozen=True)
class ExportedFile:
    """One file that was written; under ``dry_run``, one that would have been.

    Attributes:
        namespace: The namespace it holds.
        path: Its path.
        ids: The number of ids it holds.
        size: Its size in bytes; 0 under ``dry_run``.
    """

    namespace: str
    path: Path
    ids: int
    size: int


@dataclass(frozen=True)
class RefusedNamespace:
    """A namespace that was not exported, because it is not a valid file name.

    Attributes:
        namespace: The namespace.
        reason: Why.
    """

    namespace: str
    reason: str


@dataclass(frozen=True)
class SkippedLines:
    """Lines of a change log that were skipped, because they told of no whole change.

    A process that is killed while it writes leaves one. All other lines of the log were folded.

    Attributes:
        log: Path of the log, which is gone once it is folded.
        count: How many lines.
        lines: The numbers of the first ones, counted from 1.
    """

    log: Path
    count: int
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Exported:
    """The result of ``export`` or ``fold``.

    Attributes:
        directory: The directory.
        files: One for each namespace.
        dry_run: Whether nothing was written.
        refused: Namespaces of the keyspace that are not valid file names.
        foreign_count: Number of keys under the prefix that do not belong to a storage and were
            left out.
        foreign: Some of them, safe to print.
        left: Files in the directory that hold values of namespaces the server does not hold. They
            were not changed; the host would read them. If you named the namespaces, only theirs.
        skipped: Lines of change logs that told of no whole change, one entry for each log with any.
    """

    directory: Path
    files: tuple[ExportedFile, ...]
    dry_run: bool
    refused: tuple[RefusedNamespace, ...] = ()
    foreign_count: int = 0
    foreign: tuple[str, ...] = ()
    left: tuple[Path, ...] = ()
    skipped: tuple[SkippedLines, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every namespace was written."""
        return not self.refused


def export(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    dry_run: bool = False,
    progress: Report | None = None,
) -> Exported:
    """Writes namespaces as the host's own files: indent 2, not ASCII-escaped, ids sorted.

    Each file is written to a temporary file that replaces the old one once it is complete and on
    disk. Ids that expire meanwhile are left out. An existing change log is folded first, because
    folding it later would overwrite the export, for example with an old drop. Keys under the prefix
    that do not belong to a storage are left out, and listed in the result. Files of namespaces that
    the server does not hold stay as they are, and are listed in ``left``.

    Args:
        directory: The target directory; created if missing.
        settings: The settings of the server.
        namespaces: Only these; None for all in the keyspace, except those that are not valid file
            names, which are listed in ``refused``.
        dry_run: Only count.
        progress: Called with the progress.

    Raises:
        StorageConfigError: A namespace you named is not a valid file name, or the file follows
            another workspace or key prefix under ``redis_dual_write``.
        CorruptValueError: The server holds a value that is not JSON. The old file is kept.
        JsonFileError: An existing file or log cannot be read or written.
        StorageUnavailableError, StorageOperationError: The server failed.
    """
    check_names(namespaces)
    directory = Path(directory)
    config = configuration(settings)
    if not dry_run:
        directory.mkdir(parents=True, exist_ok=True)
    logged = () if dry_run else logs_in(directory)
    written, refused, skipped, left = [], [], [], []
    foreign = Foreign()
    found_there = namespaces_of(config, foreign) if namespaces is None else namespaces
    for namespace in dict.fromkeys(found_there):
        try:
            path = file_of(directory, namespace)
        except StorageConfigError as error:
            if namespaces is not None:
                raise
            refused.append(RefusedNamespace(namespace, str(error)))
            continue
        with opened(namespace, config) as store:
            if namespace in logged:
                fold = FileWork.fold(store, directory.absolute(), ask=True)
                skipped += _skipped(path, run(fold, namespace, None))
            if _holds_values(path) and not _is_held(namespace, config):
                left.append(path)
                continue
            found = run(FileWork.export(store, directory, dry_run), namespace, progress)
        written.append(ExportedFile(namespace, path, found["ids"], found["size"]))
    if namespaces is None:
        left += _left_in(directory, {file.path for file in written}.union(left))
    return Exported(
        directory,
        tuple(written),
        dry_run,
        tuple(refused),
        foreign.count,
        foreign.examples,
        tuple(sorted(left)),
        tuple(skipped),
    )


def _skipped(file: Path, folded: Mapping[str, Any]) -> list[SkippedLines]:
    """The lines that a fold of the log beside a file skipped, if any."""
    if not folded["skipped_count"]:
        return []
    log = file.with_suffix(".changes")
    return [SkippedLines(log, folded["skipped_count"], tuple(folded["skipped_lines"]))]


def _left_in(directory: Path, known: Collection[Path]) -> list[Path]:
    """The files of a directory that hold values, without those that are known."""
    if not directory.is_dir():
        return []
    files = (file for file in all_files_in(directory).values() if file not in known)
    return [file for file in files if _holds_values(file)]


def _holds_values(file: Path) -> bool:
    """Whether a file is there and holds ids; the host writes ``{}`` for a dropped namespace."""
    if not file.is_file():
        return False
    with file.open("rb") as read:
        return b"".join(read.read(64).split()) not in {b"", b"{}"}


def _is_held(namespace: str, config: RedisConfig) -> bool:
    """Whether the server has a value of the namespace."""
    return any(name == namespace for name, _ in entries_of(config))


def logs_in(directory: Path) -> list[str]:
    """The namespaces that have a change log in a directory."""
    if not directory.is_dir():
        return []
    names = (_LOG_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted({match[1] for match in names if match})


def fold(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    ask: bool = True,
) -> Exported:
    """Brings the files of ``redis_dual_write`` up to date, for example after a crash.

    Reads the values of the ids in the change log from the server, if the settings name one. Uses
    the logged values for ids that the server does not have, and if the server is down. What only
    the server can say is then left in the log, for the next fold. Does nothing without a log.

    Args:
        directory: The host's ``working_dir``.
        settings: The settings of the server.
        namespaces: Only these; None for every log in the directory.
        ask: Whether to ask the server; if not, the log's own word holds, and it is gone afterwards.

    Raises:
        StorageConfigError: There is no such directory, a namespace is not a valid file name, or
            its log belongs to another workspace or key prefix than the settings name.
        JsonFileError: A file or a log cannot be read or written.
    """
    check_names(namespaces)
    directory = Path(directory).absolute()
    if not directory.is_dir():
        raise StorageConfigError(f"{directory} is no directory: name the host's working_dir")
    config = configuration(settings)
    # Else it would be whoever listens at the default address.
    ask = ask and "redis_url" in config.model_fields_set
    found = logs_in(directory)
    folded, skipped = [], []
    for namespace in found if namespaces is None else dict.fromkeys(namespaces):
        with opened(namespace, config) as store:
            result = run(FileWork.fold(store, directory, ask), namespace, None)
        if result["ids"] is not None:
            path = file_of(directory, namespace)
            skipped += _skipped(path, result)
            folded.append(ExportedFile(namespace, path, result["ids"], result["size"]))
    return Exported(directory, tuple(folded), dry_run=False, skipped=tuple(skipped))
