"""The files of counters in a directory that others may write to: they can do no harm.

A name there may be a link, a pipe, a file without end, or JSON that says anything: each is passed
over, and why is told.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from nano_graphrag_redis import _core
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.typed_dicts import ProcessMetrics

from .llm_cache_days_kept import HIGHEST, Days

FORMAT: Final = 1
"""Files of another format are another version's and are left alone."""

LARGEST: Final = 64 << 20
"""Bytes of a file that is read: ten thousand namespaces, each called in every way, take less."""


GONE: Final = "gone.json"
"""The sum of the processes whose files were folded into one."""


class PassedOverError(Exception):
    """A file that is not read; the message says why, and not which."""


_STRICT: Final = ConfigDict(strict=True, allow_inf_nan=False)
_Count = Annotated[int, Field(ge=0, le=HIGHEST)]
_Number = Annotated[float, Field(ge=0, le=HIGHEST)] | _Count
_Counts = dict[str, _Count]


class _Operation(TypedDict):
    statuses: _Counts
    histogram: list[_Count]
    seconds: _Number


class _Namespace(TypedDict):
    operations: dict[str, _Operation]
    counts: _Counts
    forgiven: _Counts


class _Sample(TypedDict):
    taken: _Number
    evicted_keys: NotRequired[_Count]
    used_memory: NotRequired[_Count]
    max_memory: NotRequired[_Count | None]
    persistence_ok: NotRequired[bool]
    namespaces: dict[str, Annotated[list[_Number | None], Field(min_length=2, max_length=2)]]


class _Set(TypedDict):
    connections: _Count
    busy_connections: _Count
    max_connections: _Count
    requests_in_flight: _Count
    breaker_open: bool
    near_cache: NotRequired[_Counts]
    up: NotRequired[bool]
    sample: NotRequired[_Sample]


class _Server(TypedDict):
    counts: _Counts
    sets: list[_Set]


class _Snapshot(TypedDict):
    bounds: list[_Number]
    namespaces: dict[str, _Namespace]
    servers: dict[str, _Server]


class _Worker(TypedDict):
    backend: Literal["redis", "json"]
    hash_seed: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]


_Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$")]


class _Told(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]  # pydantic's own way for a TypedDict

    snapshot: _Snapshot
    written: NotRequired[_Number]
    ended: NotRequired[bool]
    worker: NotRequired[_Worker]
    days: NotRequired[dict[_Day, dict[Literal["hits", "misses"], _Count]]]
    # A name that leads out of the directory would have another file removed.
    folded: NotRequired[list[Annotated[str, StringConstraints(pattern=r"^\w[\w-]*\.json$")]]]


_TOLD: Final = TypeAdapter(_Told)


def read(path: Path, bounds: list[float], parts: tuple[str, ...]) -> Any:
    """What a file says; None if it is gone by now, or another version's.

    Args:
        path: The file.
        bounds: Those of the histograms that are added up.
        parts: What it says beside its snapshot.

    Raises:
        PassedOverError: It is no file of ours, or cannot be read.
    """
    try:
        text = _text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PassedOverError(error.strerror or "cannot be read") from None
    told = _parsed(text)
    if told is not None:
        _check_bounds(told["snapshot"], bounds)
        if not all(part in told for part in parts):
            raise PassedOverError("it is no file of counters")
    return told


def _parsed(text: bytes) -> Any:
    """What is written there, checked; None for another version's."""
    try:
        told = json.loads(text)
        if isinstance(told, dict) and told.get("format") != FORMAT:
            return None
        _TOLD.validate_python(told)
    except RecursionError:
        raise PassedOverError("nested too deeply") from None
    except ValidationError as error:
        where = visible(".".join(map(str, error.errors()[0]["loc"][:2])))
        raise PassedOverError(f"holds something else than counters in {where or 'it'}") from None
    except ValueError:
        raise PassedOverError("damaged: no JSON") from None
    return told


def _check_bounds(snapshot: Any, bounds: list[float]) -> None:
    histograms = (
        operation["histogram"]
        for namespace in snapshot["namespaces"].values()
        for operation in namespace["operations"].values()
    )
    known = snapshot["bounds"] in ([], bounds)
    if not known or any(len(histogram) != len(bounds) + 1 for histogram in histograms):
        raise PassedOverError("its histograms have other bounds")


def _text(path: Path) -> bytes:
    # A link is not followed, and a pipe that nobody writes to is not waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PassedOverError("no regular file")
        if found.st_size > LARGEST:
            raise PassedOverError(f"larger than {LARGEST >> 20} MiB")
        if _is_a_strangers(found, path.parent):
            raise PassedOverError("another user's, in a directory that everybody may write to")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            text = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(text) > LARGEST:
        raise PassedOverError(f"larger than {LARGEST >> 20} MiB")
    return text


def _is_a_strangers(found: os.stat_result, directory: Path) -> bool:
    """Whether a file is of neither this user nor the directory's owner, where anybody may write."""
    if not hasattr(os, "geteuid"):
        return False
    place = directory.stat()
    everybody = place.st_mode & stat.S_IWOTH
    return bool(everybody) and found.st_uid not in (os.geteuid(), place.st_uid)


def replace(path: Path, told: object) -> None:
    """Writes a file in one go, whatever lies under its name.

    Raises:
        OSError: It cannot be written, or is too large to be read again.
    """
    text = json.dumps(told)
    if len(text) > LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    # A name that nobody can guess, and a file that is not there: no link is written through.
    draft = path.with_name(f"{path.stem}.{secrets.token_hex(8)}.draft")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except BaseException:  # of the close too, which is what finds a disk full
        draft.unlink(missing_ok=True)
        raise


def empty() -> ProcessMetrics:
    """A snapshot of nothing."""
    return {"bounds": [], "namespaces": {}, "servers": {}}


class CounterFiles:
    """The files in a directory of counters.

    Attributes:
        directory: The directory.
        refused: Those that were passed over, and why.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.refused: dict[str, str] = {}
        self._bounds: list[float] = _core.metrics()["bounds"]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for path in sorted(self.directory.iterdir()):
            if path.suffix != ".json" or path.name == GONE:
                continue
            with contextlib.suppress(PassedOverError):
                told = self._read(path.name, "written", "ended")
                if told is not None:
                    yield path.name, told

    def gone(self) -> tuple[ProcessMetrics, list[str], Days]:
        """The sum of what was folded, the files in it that may not be removed yet, and the days.

        Raises:
            PassedOverError: It cannot be read; it is left as it is, and nothing more is folded.
        """
        told = self._read(GONE, "folded")
        if told is None:
            return empty(), [], {}
        return told["snapshot"], told["folded"], told.get("days", {})

    def _read(self, name: str, *parts: str) -> Any:
        try:
            return read(self.directory / name, self._bounds, parts)
        except PassedOverError as why:
            self.refused[name] = str(why)
            raise
