"""``migrate``: from the host's files to Redis."""

from __future__ import annotations

from .reports import Migrated, Plan, Report


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
    raise NotImplementedError
