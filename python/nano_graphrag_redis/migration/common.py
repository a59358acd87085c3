"""What all operations on files share: finding the files, the store, the steps, the retries."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from nano_graphrag_redis._core import BlockingKvStore, FileWork, file_of
from nano_graphrag_redis.backend import Backend
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.exceptions import JsonFileError, StorageConfigError

from .reports import Progress, Report, Settings

T = TypeVar("T")

_FILE_NAME = re.compile(r"kv_store_(.+)\.json", re.DOTALL)

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before a file is begun again that was written meanwhile. The host writes a file in one
go; one that is written all the time is not waited for longer."""

_AT_REST = 1.0
"""Seconds since its last change after which nobody is writing a file any more."""


def configuration(settings: Settings, directory: Path | None = None) -> RedisConfig:
    """The settings to work with: the server's word alone counts, and nothing follows the work.

    Args:
        settings: As the caller gave them.
        directory: The working directory that the keyspace is being filled from.
    """
    if not isinstance(settings, RedisConfig):
        settings = RedisConfig.from_global_config(settings or {})
    origin = str(directory) if directory else None
    alone = {"redis_dual_write": False, "redis_outage_policy": {}, "working_dir": origin}
    alone["redis_ttl_sliding"] = False  # a copy prolongs nothing
    return settings.model_copy(update=alone)


@contextmanager
def opened(
    namespace: str, config: RedisConfig, *, ttl: int | None = None
) -> Iterator[BlockingKvStore]:
    """Opens the store of a namespace and closes it at the end; ``ttl`` overrides its setting."""
    backend = Backend(namespace, config, ttl=ttl)
    try:
        backend.join_server()
        yield backend.store.blocking
    finally:
        backend.close()


def all_files_in(directory: Path) -> dict[str, Path]:
    """The host's files in a directory, by namespace."""
    matches = (_FILE_NAME.fullmatch(path.name) for path in directory.iterdir())
    return {match[1]: directory / match[0] for match in matches if match}


def files_in(directory: Path, namespaces: Collection[str] | None) -> Mapping[str, Path]:
    """The host's files of these namespaces, or all that are there, by namespace.

    Raises:
        StorageConfigError: There is no such directory, or a file of it is missing.
    """
    if not directory.is_dir():
        raise StorageConfigError(f"{directory} is no directory: name the host's working_dir")
    found = all_files_in(directory)
    if namespaces is None:
        if not found:
            raise StorageConfigError(
                f"{directory} holds no kv_store_*.json: name the host's working_dir"
            )
        return dict(sorted(found.items()))
    for namespace in namespaces:
        if not file_of(directory, namespace).is_file():
            there = f"; there are {', '.join(sorted(found))}" if found else ", nor of any other"
            raise StorageConfigError(
                f"{directory} holds no kv_store_{namespace}.json{there}", namespace=namespace
            )
    return {namespace: file_of(directory, namespace) for namespace in dict.fromkeys(namespaces)}


def run(work: FileWork, namespace: str, progress: Report | None) -> dict[str, Any]:
    """Runs all steps of an operation and returns its result."""
    while step := work.step():
        if progress is not None:
            name, done, total, unit = step
            progress(
                Progress(
                    namespace=namespace,
                    step=cast("Any", name),
                    done=done,
                    total=total,
                    unit=cast("Literal['bytes', 'ids']", unit),
                )
            )
    return work.result


def steadily(path: Path, work: Callable[[Path], T]) -> T:
    """Does work on a file of the host's, who may be writing it: it writes in place.

    A file that was written while it was read is copied, which takes a fraction of the time that the
    work takes, and the copy is read.

    Raises:
        JsonFileError: The file is damaged, or was being written each time.
    """
    for pause in _PAUSES:
        before = _state(path)
        try:
            return work(path)
        except JsonFileError:
            written = _state(path) != before
            if not written and time.time() - path.stat().st_mtime > _AT_REST:
                raise
        time.sleep(pause)
        if written:
            with _copied(path) as copy, suppress(JsonFileError):
                if copy is not None:
                    return work(copy)
    return work(path)


@contextmanager
def _copied(path: Path) -> Iterator[Path | None]:
    """A copy of the file; None if it was written meanwhile."""
    with tempfile.NamedTemporaryFile(prefix=f"{path.stem}-", suffix=".json") as copy:
        before = _state(path)
        shutil.copyfile(path, copy.name)
        # As old as what it is a copy of: whoever reads it may rely on nobody writing it.
        os.utime(copy.name, ns=(before[-1], before[-1]))
        yield Path(copy.name) if _state(path) == before else None


def _state(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - the ids of the file, not a question about it
    except OSError as error:
        raise JsonFileError(f"{path} is gone: {error.strerror}") from None
    return found.st_ino, found.st_size, found.st_mtime_ns
