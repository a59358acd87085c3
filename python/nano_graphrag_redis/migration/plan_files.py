"""``plan``: what a working directory holds, and what ``migrate`` will do with it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from nano_graphrag_redis._core import FileWork, file_of
from nano_graphrag_redis.exceptions import JsonFileError

from .common import configuration, files_in, run, steadily
from .export_files import logs_in
from .reports import Plan, PlannedFile, Report, Settings


def plan(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    ttl: int | None = None,
    progress: Report | None = None,
) -> Plan:
    """Reads the host's files completely, and says what ``migrate`` will do. Writes nothing.

    Args:
        directory: The host's ``working_dir``, which holds its ``kv_store_*.json``.
        settings: The settings of the server.
        namespaces: Only these; None for every file in the directory.
        ttl: TTL in seconds for ids that are new on the server, in place of each namespace's
            setting; 0 for no expiry.
        progress: Called with the progress.

    Raises:
        JsonFileError: A file is damaged, or stays half-written because the host is writing it. Or
            it is behind its change log, so that newer data, there or on the server, would be lost.
        StorageConfigError: There is no such directory or file, or a setting is invalid.
    """
    directory = Path(directory).absolute()
    config = configuration(settings, directory)
    for namespace in logs_in(directory):
        if namespaces is None or namespace in namespaces:
            raise JsonFileError(
                f"{file_of(directory, namespace)} is behind the log of changes that "
                "redis_dual_write has left beside it: run nano-graphrag-redis fold "
                f"--in {directory} first, or delete the log if the host has written the file since",
                namespace=namespace,
            )
    return Plan(
        directory,
        config,
        tuple(
            _look_over(path, namespace, config.ttl_for(namespace) if ttl is None else ttl, progress)
            for namespace, path in files_in(directory, namespaces).items()
        ),
    )


def _look_over(path: Path, namespace: str, ttl: int, progress: Report | None) -> PlannedFile:
    def check(readable: Path) -> PlannedFile:
        work = FileWork.check(readable)
        found = run(work, namespace, progress)
        return PlannedFile(namespace, path, found["size"], found["ids"], ttl, work)

    return steadily(path, check)
