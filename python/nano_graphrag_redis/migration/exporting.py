"""``export`` and ``fold``: from Redis, or from a log of changes, to the host's files."""

from __future__ import annotations

import os
from collections.abc import Collection

from .reports import Exported, Report, Settings


def export(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    dry_run: bool = False,
    progress: Report | None = None,
) -> Exported:
    """Writes namespaces as the host's own files: indent 2, not ASCII-escaped, ids sorted.

    Each file is written beside its place and moved there when it is whole and on the disk. Ids that
    expire meanwhile are left out.

    Args:
        directory: Where to; made when missing.
        settings: Where the server is.
        namespaces: These only; None for all that the keyspace holds.
        dry_run: Count only.
        progress: Told how far it is.

    Raises:
        CorruptValueError: The server holds a value that is no JSON; the file is left as it was.
        StorageUnavailableError, StorageOperationError: The server failed.
    """
    raise NotImplementedError


def fold(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
) -> Exported:
    """Brings the files up to date that ``redis_dual_write`` keeps, after a crash say.

    Without a server it takes the values that the log of changes holds. Where there is no log there
    is nothing to do.

    Args:
        directory: The host's ``working_dir``.
        settings: Where the server is.
        namespaces: These only; None for every log that is there.

    Raises:
        JsonFileError: A file or a log cannot be read or written.
    """
    raise NotImplementedError
