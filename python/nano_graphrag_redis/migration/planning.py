"""What lies in a working directory, and what of it will go where."""

from __future__ import annotations

import os
from collections.abc import Collection

from .reports import Plan, Report, Settings


def plan(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    ttl: int | None = None,
    progress: Report | None = None,
) -> Plan:
    """Reads the host's files over, whole, and says what ``migrate`` will do. Writes nothing.

    Args:
        directory: The host's ``working_dir``, which holds its ``kv_store_*.json``.
        settings: Where the server is.
        namespaces: Take these only; None for every file that is there.
        ttl: Seconds that ids live which are not on the server yet, in place of each namespace's own
            setting; 0 for ever.
        progress: Told how far it is.

    Raises:
        JsonFileError: A file is damaged, or stays half-written: the host is writing it.
        StorageConfigError: There is no such directory or file, or a setting is wrong.
    """
    raise NotImplementedError
