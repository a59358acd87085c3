"""A host on JSON files: logs of dual writing are folded before it reads, and metrics show it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nano_graphrag_redis.config.sources import metrics_directory
from nano_graphrag_redis.workers.backend_and_hash_seed import note_json


def bring_up_to_date(
    directory: str, settings: Mapping[str, Any], namespaces: Collection[str] | None = None
) -> None:
    """Folds the change logs of ``redis_dual_write``, which a killed process left, into the files.

    None is left behind: the host writes the files itself from now on, and what an old log still
    asks of the server would be said of the host's own values.

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
        unanswered = [name for name in logs_in(Path(directory)) if name in wanted]
        fold(directory, settings, namespaces=unanswered, ask=False)


def host_chose_json() -> None:
    """Notes that the host keeps JSON files here, and shows it where counters are written.

    Without ``REDIS_METRICS_DIR`` it costs nothing.
    """
    note_json()
    directory = metrics_directory()
    if directory is not None:
        from nano_graphrag_redis.workers.counter_writer import keep_writing

        keep_writing(Path(directory).absolute())
