"""What lies in deploy/: its YAML, and real servers that take its configuration."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
import yaml

from support.host import ROOT
from support.servers import RedisServer, server_label

DEPLOY = ROOT / "deploy"

_OF_THE_CONTAINER = ("bind ", "port ", "dir ")
"""Lines about the inside of a container; here the guard says them."""


def documents(file: str) -> list[Any]:
    """The documents of a YAML file below deploy/."""
    return list(yaml.safe_load_all((DEPLOY / file).read_text(encoding="utf-8")))


def lines_of(file: str) -> list[str]:
    """The lines of a configuration, without comments; what it includes stands in its place."""
    lines = []
    for line in (DEPLOY / "redis" / file).read_text(encoding="utf-8").splitlines():
        if line == "include /usr/local/etc/redis/redis.conf":
            lines += lines_of("redis.conf")
        elif line and not line.startswith("#"):
            lines.append(line)
    return lines


class Deployed(RedisServer):
    """A server with a configuration of deploy/redis/ and the users of deploy/make-secrets.

    Args:
        binary: The server to run.
        file: The configuration.
        secrets: The directory that the script has made.
        more: Further lines of configuration.
    """

    def __init__(self, binary: Path, file: str, secrets: Path, *more: str) -> None:
        self.file = file
        self._passwords = secrets
        users = secrets / f"users-for-{server_label(binary)}"
        known = (secrets / "redis_users.acl").read_text(encoding="utf-8")
        if server_label(binary) == "redis-7.0":  # which the deployed version is beyond
            for later in ("+client|setinfo", "+waitaof"):
                known = known.replace(f" {later}", "")
        users.write_text(known)
        lines = [
            line.replace("/run/secrets/redis_users.acl", str(users)).replace(
                "/run/secrets", str(secrets)
            )
            for line in lines_of(file)
            if not line.startswith(_OF_THE_CONTAINER)
        ]
        # By default the bus is 10,000 above the port, which may be more than there are.
        self._bus = socket.socket()
        self._bus.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bus.bind(("127.0.0.1", 0))
        lines += [f"cluster-port {self._bus.getsockname()[1]}", *more]
        super().__init__(binary, config=tuple(lines))

    def close(self) -> None:
        """Ends the server; its bus's port is free again."""
        super().close()
        self._bus.close()

    def secret_of(self, user: str) -> str:
        """The password of a user that has one in a file."""
        names = {"nano_graphrag": "redis_password", "operator": "redis_operator_password"}
        if user == "replication":
            text = (self._passwords / "redis_replication.conf").read_text(encoding="utf-8")
            return str(re.findall(r"masterauth (\S+)", text)[0])
        return (self._passwords / names[user]).read_text(encoding="utf-8")

    def as_user(self, user: str) -> redis.Redis:
        """A client that is logged in as one of the users."""
        return self.client(username=user, password=self.secret_of(user))


def containers(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The containers of a workload."""
    return list(manifest["spec"]["template"]["spec"]["containers"])
