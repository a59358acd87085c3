"""Which server wrote a directory's files, and which servers may read them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nano_graphrag_redis.embedded.shortages import passes
from nano_graphrag_redis.exceptions import StorageConfigError

RECORD = "server.json"
_VERSION_TIMEOUT = 10.0
"""Seconds a server may take to print its version."""
_LAST_SHARED_FORMAT = (7, 2)
"""Valkey reads what Redis wrote up to this release; from the next one on the formats differ."""


@dataclass(frozen=True)
class Server:
    """A server by its kind, ``redis`` or ``valkey``, and its version."""

    kind: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.version))}"

    def reads_files_of(self, writer: Server) -> bool:
        """Whether a data directory of ``writer`` may be opened by this server.

        File formats change with minor releases, never with patches, and older servers refuse
        newer formats. Redis cannot read Valkey 9; that it reads older Valkeys is promised nowhere.
        """
        if self.kind == writer.kind:
            return self.version[:2] >= writer.version[:2]
        return self.kind == "valkey" and writer.version[:2] <= _LAST_SHARED_FORMAT


def identify(binary: Path) -> Server:
    """Asks a program which server it is.

    Raises:
        OSError: The system runs nothing now.
        StorageConfigError: It does not run, or is neither Redis nor Valkey.
    """
    try:
        answer = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        if isinstance(error, OSError) and passes(error):
            raise
        raise StorageConfigError(f"{binary} --version does not run: {error}") from error
    if match := re.match(r"(Redis|Valkey) server v=([\d.]+)", answer):
        return Server(match[1].lower(), _numbers(match[2]))
    raise StorageConfigError(
        f"{binary} is neither Redis nor Valkey, going by its --version: {answer.strip()[:80]!r}"
    )


def from_info(info: str) -> Server:
    """Reads the answer to ``INFO server``, in which a Valkey also plays an old Redis."""
    fields = _fields(info)
    kind = "valkey" if "valkey_version" in fields else "redis"
    return Server(kind, _numbers(fields[f"{kind}_version"]))


def process_id(info: str) -> int:
    """The server's process, as ``INFO server`` says."""
    return int(_fields(info)["process_id"])


def _fields(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


def recorded(directory: Path) -> Server | None:
    """The server that last wrote in ``directory``, None for a fresh one.

    Raises:
        StorageConfigError: The record is unreadable.
    """
    path = directory / RECORD
    try:
        record = json.loads(path.read_text())
        return Server(record["server"], _numbers(record["version"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageConfigError(
            f"{path} does not say which server wrote this directory: let it read like "
            '{"server": "valkey", "version": "9.1.2"}, or name another directory in REDIS_URL'
        ) from error


def record(directory: Path, server: Server) -> None:
    """Notes that ``server`` now writes in ``directory``."""
    if recorded(directory) == server:
        return
    text = json.dumps({"server": server.kind, "version": ".".join(map(str, server.version))})
    # Renamed into place: a reader never meets half a record.
    handle, draft = tempfile.mkstemp(prefix=f"{RECORD}.", dir=directory)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{text}\n")
        Path(draft).replace(directory / RECORD)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def check_readable(directory: Path, binary: Path) -> None:
    """Refuses a server that cannot read the files of ``directory``; writes nothing.

    Raises:
        StorageConfigError: It names both servers.
    """
    writer, reader = recorded(directory), identify(binary)
    if writer is not None and not reader.reads_files_of(writer):
        raise StorageConfigError(
            f"embedded://{directory} was written by {writer}, which {reader} ({binary}) cannot "
            f"read: set REDIS_SERVER_BIN to a {writer.kind} of that version or later, or name "
            "another directory in REDIS_URL"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
