"""What a worker shows in its metrics whose host keeps JSON files."""

from __future__ import annotations

from pathlib import Path

from nano_graphrag_redis.config.sources import metrics_directory

from .backend_and_hash_seed import note_json


def host_chose_json() -> None:
    """Notes that the host keeps JSON files here, and shows it where counters are written.

    Without ``REDIS_METRICS_DIR`` it costs nothing.
    """
    note_json()
    directory = metrics_directory()
    if directory is not None:
        from .counter_writer import keep_writing

        keep_writing(Path(directory).absolute())
