"""Users of a test's server."""

from __future__ import annotations

from typing import Any

from nano_graphrag_redis import RedisConfig
from nano_graphrag_redis.acl import PLACEHOLDER, acl_rules
from support.servers import RedisServer


def server_version(server: RedisServer) -> tuple[int, int]:
    """Major and minor version of a running server."""
    info: Any = server.client().info("server")
    major, minor, *_ = info.get("valkey_version", info["redis_version"]).split(".")
    return int(major), int(minor)


def make_user(server: RedisServer, settings: dict[str, Any]) -> list[str]:
    """Makes the user ``graph`` by the words of these settings' ACL line; returns its rules."""
    rules = acl_rules(RedisConfig(**settings), server=server_version(server))
    words = ["graph", "reset", "on", f">{PLACEHOLDER}", *rules]
    server.client().execute_command("ACL", "SETUSER", *words)
    return rules


def refusals(server: RedisServer) -> set[tuple[str, str]]:
    """Why and at what the server has refused somebody something."""
    log: Any = server.client().acl_log()
    return {(entry["reason"], entry["object"]) for entry in log}
