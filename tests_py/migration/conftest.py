"""A working directory of the host's, and the settings that lead to a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.servers import RedisServer

WriteFile = Callable[..., Path]
"""``write_file(namespace, values)``: what the host's ``JsonKVStorage`` leaves."""

Open = Callable[..., SyncRedisKVStorage]
"""``open_storage(namespace, **settings)``: a storage with dual writing, closed after the test."""


@pytest.fixture
def settings(server: RedisServer) -> dict[str, Any]:
    return {"redis_url": server.url}


@pytest.fixture
def working_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def write_file(working_dir: Path) -> WriteFile:
    def write(namespace: str, values: dict[str, Any], **layout: Any) -> Path:
        path = working_dir / f"kv_store_{namespace}.json"
        with path.open("w", encoding="utf-8") as file:
            json.dump(values, file, **{"indent": 2, "ensure_ascii": False, **layout})
        return path

    return write


@pytest.fixture
def own_server(server_binary: Path) -> Iterator[RedisServer]:
    """A server for tests that kill or pause it."""
    with RedisServer(server_binary) as running:
        yield running


@pytest.fixture
def open_storage(settings: dict[str, Any], working_dir: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_one(namespace: str = "full_docs", **more: Any) -> SyncRedisKVStorage:
            both = {**settings, "working_dir": str(working_dir), "redis_dual_write": True, **more}
            return stack.enter_context(SyncRedisKVStorage(namespace, both))

        yield open_one


def file(directory: Path, namespace: str = "full_docs") -> Any:
    return json.loads((directory / f"kv_store_{namespace}.json").read_text(encoding="utf-8"))
