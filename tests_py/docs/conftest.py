"""An environment like a reader's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support.servers import server_binaries


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What the examples say holds on every server; one kind is enough to see it."""
    return server_binaries()["valkey"]


@pytest.fixture
def environ() -> dict[str, str]:
    """No setting of ours, the command on the PATH, and the hash seed that the pages name."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    commands = str(Path(sys.executable).parent)
    path = os.pathsep.join([commands, inherited["PATH"]])
    return inherited | {"PATH": path, "PYTHONHASHSEED": "0"}
