"""Users of a test's server."""

from __future__ import annotations

from typing import Any

from support.servers import RedisServer


def server_version(server: RedisServer) -> tuple[int, int]:
    """Major and minor version of a running server."""
    info: Any = server.client().info("server")
    major, minor, *_ = info.get("valkey_version", info["redis_version"]).split(".")
    return int(major), int(minor)
