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
    """No setting of ours, and the installed command on the PATH."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    commands = str(Path(sys.executable).parent)
    return inherited | {"PATH": os.pathsep.join([commands, inherited["PATH"]])}
