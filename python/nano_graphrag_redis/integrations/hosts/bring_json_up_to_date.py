"""Going back to JSON: updates the files that a host is about to read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


def bring_up_to_date(
    directory: str, settings: Mapping[str, Any], namespaces: Collection[str] | None = None
) -> None:
    """Folds the change logs of ``redis_dual_write``, which a killed process left, into the files.

    Args:
        directory: The host's ``working_dir``.
        settings: As for a storage.
        namespaces: Only these; None for all.
    """
    # A host that stays on JSON has no log, and needs none of what folding imports.
    from nano_graphrag_redis.migration.export_and_fold_files import fold, logs_in

    logged = logs_in(Path(directory))
    wanted = logged if namespaces is None else [name for name in logged if name in namespaces]
    if wanted:
        fold(directory, settings, namespaces=wanted)
