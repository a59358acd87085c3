"""What the operations on files return: plans and results. And the settings that they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nano_graphrag_redis._core import FileWork
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.humanize import plural

Settings = RedisConfig | Mapping[str, Any] | None
"""A ``RedisConfig``, a host's ``global_config``, or None for the environment."""


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
            f"{plural(file.ids, _noun(file))} of {file.namespace} will expire {_span(file.ttl)} "
            "after being copied, what is on the server already when its own time is up"
            for file in self.expiring
        ]


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
            were not changed; the host would read them. Empty if you named the namespaces.
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


@dataclass(frozen=True)
class VerifiedNamespace:
    """One namespace in its file and on the server. Lists hold the first 1,000 ids, sorted.

    Attributes:
        namespace: The namespace.
        ids_in_file: Number of ids in the file.
        ids_on_server: Number of ids on the server.
        file_digest: Digest of all ids and values in the file. Equal contents have equal digests
            within one run; order, spelling and white space do not matter.
        server_digest: The same for the server.
        differing: Ids whose values differ.
        differing_count: How many.
        missing: Ids that exist only in the file.
        missing_count: How many.
        extra: Ids that exist only on the server.
        extra_count: How many.
    """

    namespace: str
    ids_in_file: int
    ids_on_server: int
    file_digest: str
    server_digest: str
    differing: tuple[str, ...] = ()
    differing_count: int = 0
    missing: tuple[str, ...] = ()
    missing_count: int = 0
    extra: tuple[str, ...] = ()
    extra_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether both hold the same."""
        return not (self.differing_count or self.missing_count or self.extra_count)


@dataclass(frozen=True)
class Verified:
    """The result of ``verify``.

    Attributes:
        namespaces: One for each.
    """

    namespaces: tuple[VerifiedNamespace, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether the files and the server hold the same."""
        return all(namespace.ok for namespace in self.namespaces)


def _noun(file: PlannedFile) -> str:
    return "answer" if file.namespace == "llm_response_cache" else "id"


def _span(seconds: int) -> str:
    """A time to live as a person says it: in hours, unless it is no round number of them.

    >>> _span(43200), _span(3600), _span(90)
    ('12 hours', '1 hour', '90 seconds')
    """
    for unit, size in (("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % size == 0:
            return plural(seconds // size, unit)
    raise AssertionError  # every number is divisible by one
