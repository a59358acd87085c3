"""Work on a file of the host's that it may be writing: begun again, for how long, and on a copy."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from nano_graphrag_redis.exceptions import JsonFileError

T = TypeVar("T")

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before a file is begun again that was written meanwhile. The host writes a file in one
go; one that is written all the time is not waited for longer."""

_AT_REST = 1.0
"""Seconds since its last change after which nobody is writing a file any more."""


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
