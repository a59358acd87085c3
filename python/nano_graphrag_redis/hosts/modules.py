"""What is imported only where it is used: the host's modules, the storage, the work on files."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any


def imported(name: str) -> ModuleType | None:
    """The module ``name``; None when it, or a package it lies in, does not exist.

    Raises:
        ModuleNotFoundError: It exists, and something that it imports does not.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        return None


def redis_storage() -> type:
    """Returns ``RedisKVStorage``, a subclass of the host's own base class."""
    from nano_graphrag_redis.storage import RedisKVStorage

    return RedisKVStorage


def bring_files_up_to_date(rag: Any) -> None:
    """Folds what ``redis_dual_write`` has logged into the JSON files that a host is about to read.

    A process that was killed has left its log.
    """
    from nano_graphrag_redis.migration.exporting import fold, logs_in

    if logs_in(Path(rag.working_dir)):
        fold(rag.working_dir, {"addon_params": rag.addon_params})
