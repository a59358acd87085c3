"""The pages a reader meets, and an environment like the reader's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support.servers import RedisServer, server_binaries


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What the examples say holds on every server; one kind is enough to see it."""
    return server_binaries()["valkey"]


@pytest.fixture
def environ(server: RedisServer) -> dict[str, str]:
    """No setting but those of the console block, and the installed command on the PATH."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    commands = str(Path(sys.executable).parent)
    return inherited | {
        "PATH": os.pathsep.join([commands, inherited["PATH"]]),
        "STORAGE_KV_BACKEND": "redis",
        "REDIS_URL": server.url,
    }
