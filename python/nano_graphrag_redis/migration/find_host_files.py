"""The host's files in a directory, by namespace."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from nano_graphrag_redis._core import file_of
from nano_graphrag_redis.exceptions import StorageConfigError

_FILE_NAME = re.compile(r"kv_store_(.+)\.json", re.DOTALL)


def all_files_in(directory: Path) -> dict[str, Path]:
    """The host's files in a directory, by namespace."""
    matches = (_FILE_NAME.fullmatch(path.name) for path in directory.iterdir())
    return {match[1]: directory / match[0] for match in matches if match}


def check_names(namespaces: Collection[str] | None) -> None:
    """Refuses one name in place of several: its letters would be taken for names.

    Raises:
        TypeError: It is one str.
    """
    if isinstance(namespaces, str):
        raise TypeError("namespaces must be a collection of str, not one str")


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
