"""Moves a graph's documents between the host's JSON files and Redis, and compares the two.

``plan`` checks the files and says what will happen, ``migrate`` does it, ``verify`` compares,
``export`` writes the files from Redis, and ``fold`` brings the files of ``redis_dual_write`` up to
date.

All of them stream: their memory grows with the largest value, not with the file or the namespace.
They print nothing. They call ``progress`` after each step, on the caller's thread; an exception
raised there stops the operation. An operation that stopped for any reason is safe to run again,
because it skips what has been copied. They block: from a coroutine, use ``asyncio.to_thread``.
"""

from .export_and_fold_files import (
    Exported,
    ExportedFile,
    RefusedNamespace,
    SkippedLines,
    export,
    fold,
)
from .open_store import Settings
from .plan_and_migrate_files import (
    Migrated,
    MigratedNamespace,
    Plan,
    PlannedFile,
    Refused,
    migrate,
    plan,
)
from .progress import Progress, Report
from .verify_files import Verified, VerifiedNamespace, verify

__all__ = [
    "Exported",
    "ExportedFile",
    "Migrated",
    "MigratedNamespace",
    "Plan",
    "PlannedFile",
    "Progress",
    "Refused",
    "RefusedNamespace",
    "Report",
    "Settings",
    "SkippedLines",
    "Verified",
    "VerifiedNamespace",
    "export",
    "fold",
    "migrate",
    "plan",
    "verify",
]
