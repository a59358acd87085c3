"""``verify``: are the host's files and Redis the same?"""

from __future__ import annotations

import os
from collections.abc import Collection

from .reports import Report, Settings, Verified


def verify(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    progress: Report | None = None,
) -> Verified:
    """Compares the host's files with the server, id by id; writes nothing.

    Values are the same when ``json.loads`` makes the same of them, types and bits of floats
    included; the order of a dict's keys does not count.

    Args:
        directory: The host's ``working_dir``.
        settings: Where the server is.
        namespaces: These only; None for every file that is there.
        progress: Told how far it is.

    Raises:
        JsonFileError: A file is damaged, or kept changing.
        CorruptValueError: The server holds a value that is no JSON.
        StorageUnavailableError, StorageOperationError: The server failed.
    """
    raise NotImplementedError
