"""What the work on files is told, and what it tells: settings, progress, results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nano_graphrag_redis._core import FileWork
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.wording import so_many

Settings = RedisConfig | Mapping[str, Any] | None
"""Where the server is: a ``RedisConfig``, a host's ``global_config``, or None: the environment."""


@dataclass(frozen=True)
class Progress:
    """How far the work on one namespace has come.

    Attributes:
        namespace: The namespace.
        step: ``check`` (the file is read over), ``copy``, ``list`` (ids are collected), ``write``
            (a file is written), ``read`` and ``compare``.
        done: How much of the step is done, in ``unit``.
        total: How much it is in all; None where nobody knows yet.
        unit: What ``done`` and ``total`` count.
    """

    namespace: str
    step: Literal["check", "copy", "list", "write", "read", "compare"]
    done: int
    total: int | None
    unit: Literal["bytes", "ids"]


Report = Callable[[Progress], None]
"""Called after each piece of work; an exception that it raises ends the work."""


@dataclass(frozen=True)
class PlannedFile:
    """One file of the host, as it was when it was looked over.

    Attributes:
        namespace: The namespace it holds.
        path: Where it is.
        size: Its size in bytes.
        ids: How many ids it holds.
        ttl: Seconds that an id lives which is not on the server yet; 0 for ever.
        checked: What it is known again by.
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
        config: Where to.
        files: One for each namespace.
    """

    directory: Path
    config: RedisConfig
    files: tuple[PlannedFile, ...]

    @property
    def expiring(self) -> tuple[PlannedFile, ...]:
        """Those whose ids will expire on the server."""
        return tuple(file for file in self.files if file.ttl and file.ids)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def notices(self) -> list[str]:
        """What to tell before it starts, a sentence each: how many ids will expire, and when."""
        return [
            f"{so_many(file.ids, _noun(file))} of {file.namespace} will expire {_span(file.ttl)} "
            "after being copied, what is on the server already when its own time is up"
            for file in self.expiring
        ]


@dataclass(frozen=True)
class Refused:
    """An id that was not copied: its file still has it.

    Attributes:
        id: The id.
        reason: Why it cannot be stored.
    """

    id: str
    reason: str


@dataclass(frozen=True)
class MigratedNamespace:
    """What was done for one namespace; under ``dry_run``, what would have been.

    Attributes:
        namespace: The namespace.
        ids: Ids that the file holds.
        written: Ids that were not on the server.
        replaced: Ids that had another value there; each kept its remaining time to live.
        unchanged: Ids that were there with the same value, and were left alone.
        refused: Ids that cannot be stored, the first 1,000 of them.
        refused_count: How many.
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
    """What ``migrate`` did.

    Attributes:
        namespaces: One for each.
        dry_run: Whether nothing was written.
    """

    namespaces: tuple[MigratedNamespace, ...]
    dry_run: bool

    @property
    def ok(self) -> bool:
        """Whether everything that the files hold is on the server."""
        return not any(namespace.refused_count for namespace in self.namespaces)

    @property
    def written(self) -> int:
        """Ids that were written, new or in place of another value."""
        return sum(namespace.written + namespace.replaced for namespace in self.namespaces)


@dataclass(frozen=True)
class ExportedFile:
    """One file that was written; under ``dry_run``, that would have been.

    Attributes:
        namespace: The namespace it holds.
        path: Where it is.
        ids: How many ids it holds.
        size: Its size in bytes; 0 under ``dry_run``.
    """

    namespace: str
    path: Path
    ids: int
    size: int


@dataclass(frozen=True)
class RefusedNamespace:
    """A namespace that was not exported: no file can hold it.

    Attributes:
        namespace: The namespace.
        reason: Why.
    """

    namespace: str
    reason: str


@dataclass(frozen=True)
class Exported:
    """What ``export`` or ``fold`` wrote.

    Attributes:
        directory: Where.
        files: One for each namespace.
        dry_run: Whether nothing was written.
        refused: Namespaces of the keyspace that no file can hold.
        foreign_count: Keys under the prefix that no storage has made, and that were left out.
        foreign: Some of them, as they may be shown.
    """

    directory: Path
    files: tuple[ExportedFile, ...]
    dry_run: bool
    refused: tuple[RefusedNamespace, ...] = ()
    foreign_count: int = 0
    foreign: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every namespace was written."""
        return not self.refused


@dataclass(frozen=True)
class VerifiedNamespace:
    """One namespace in its file and on the server. Lists hold the first 1,000 ids, sorted.

    Attributes:
        namespace: The namespace.
        ids_in_file: Ids that the file holds.
        ids_on_server: Ids that the server holds.
        file_digest: One for all ids and values of the file. Equal contents have equal digests
            within one run; order, spelling and white space do not count.
        server_digest: The same for the server.
        differing: Ids with another value.
        differing_count: How many.
        missing: Ids that only the file holds.
        missing_count: How many.
        extra: Ids that only the server holds.
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
    """What ``verify`` found.

    Attributes:
        namespaces: One for each.
    """

    namespaces: tuple[VerifiedNamespace, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether files and server hold the same."""
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
            return so_many(seconds // size, unit)
    raise AssertionError  # every number is divisible by one
