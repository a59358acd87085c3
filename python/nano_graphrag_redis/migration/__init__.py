"""Moving a graph's documents between the host's JSON files and Redis, and comparing the two.

``plan`` looks the files over and says what will happen, ``migrate`` does it, ``verify`` compares,
``export`` is the way back, ``fold`` brings the files up to date that ``redis_dual_write`` keeps.

All of them stream: their memory grows with the largest value, not with the file or the namespace.
They print nothing; ``progress`` is called after each piece of work, on the caller's thread, and an
exception that it raises ends the work. Whatever ends the work, running it again is safe: what was
copied already is found to be there. They block: from a coroutine, call them by
``asyncio.to_thread``.
"""

from .compare import verify
from .copying import migrate
from .exporting import export, fold
from .planning import plan
from .reports import (
    Exported,
    ExportedFile,
    Migrated,
    MigratedNamespace,
    Plan,
    PlannedFile,
    Progress,
    Refused,
    RefusedNamespace,
    Report,
    Settings,
    Verified,
    VerifiedNamespace,
)

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
    "Verified",
    "VerifiedNamespace",
    "export",
    "fold",
    "migrate",
    "plan",
    "verify",
]
