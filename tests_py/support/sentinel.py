"""A master, two replicas and three sentinels for the tests, on loopback."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from .conditions import eventually
from .guard import Guard
from .servers import RedisServer

NAME = "mymaster"
USER = "watcher"
DOWN_AFTER = 0.5
"""Seconds of silence after which a sentinel takes a server for dead."""


class SentinelServer(RedisServer):
    """One sentinel.

    Args:
        binary: The server program, which is a sentinel too.
        master: The server it is to watch.
        password: What it asks of the user ``USER``, if it asks for anything.
        down_after: Seconds of silence after which it takes a server for down.
        options: As for ``RedisServer``.
    """

    _arguments = ("--sentinel",)

    def __init__(
        self,
        binary: Path | None,
        master: RedisServer,
        password: str | None = None,
        down_after: float = DOWN_AFTER,
        **options: Any,
    ) -> None:
        lines = [
            f"sentinel monitor {NAME} 127.0.0.1 {master.port} 2",
            f"sentinel down-after-milliseconds {NAME} {int(down_after * 1000)}",
            f"sentinel failover-timeout {NAME} 5000",
        ]
        if password:
            lines += [
                "user default off",
                f"user {USER} on >{password} ~* &* +@all",
                f"sentinel sentinel-user {USER}",
                f"sentinel sentinel-pass {password}",
            ]
        super().__init__(binary, config=tuple(lines), **options)
        self._login = {"username": USER, "password": password} if password else {}
        self._admin: redis.Redis | None = None

    def state(self) -> dict[str, str]:
        """What it knows of the master."""
        if self._admin is None:
            self._admin = self.client(decode_responses=True, **self._login)
        answer: Any = self._admin.execute_command("SENTINEL", "MASTER", NAME)
        words = answer if isinstance(answer, list) else [w for pair in answer.items() for w in pair]
        return dict(zip(map(str, words[::2]), map(str, words[1::2]), strict=True))

    def master_port(self) -> int:
        """The port of the server that it takes for the master."""
        return int(self.state()["port"])

    def knows_all(self) -> bool:
        """Whether it knows both replicas and both other sentinels."""
        state = self.state()
        return (state["num-slaves"], state["num-other-sentinels"]) == ("2", "2")


class Sentinels(Guard):
    """Three servers that hold values, the first of them the master at first, and three sentinels.

    The servers are set as the documentation asks: a master that has lost its replicas refuses to
    write within a second.

    Args:
        binary: The server to run; Valkey when not given.
        sentinel_password: What the sentinels ask for, of the user ``watcher``.
        down_after: As for ``SentinelServer``. A sentinel may need 0.6 s to reach the server that
            another one promoted: with less, it now and then has a second one promoted, which may
            lack what the first one had acknowledged.
        options: Configuration of each server, as for ``RedisServer``; what is of TLS, of each
            sentinel too.
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        sentinel_password: str | None = None,
        down_after: float = DOWN_AFTER,
        **options: Any,
    ) -> None:
        self._stack = ExitStack()
        self._admins: dict[int, redis.Redis] = {}
        settings = {
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
            "min-replicas-to-write": "1",
            "min-replicas-max-lag": "2",
        }
        self.servers = [RedisServer(binary, **(settings | options)) for _ in range(3)]
        tls = {name: value for name, value in options.items() if name.startswith("tls")}
        self._secure = bool(tls)
        self.sentinels = [
            SentinelServer(binary, self.servers[0], sentinel_password, down_after, **tls)
            for _ in range(3)
        ]

    @property
    def url(self) -> str:
        """The sentinels, comma-separated."""
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis{'s' if self._secure else ''}+sentinel://{places}"

    @property
    def settings(self) -> dict[str, str]:
        """The least a storage needs to know."""
        return {"redis_url": self.url, "redis_sentinel_master": NAME}

    @property
    def master(self) -> RedisServer:
        """The server that most sentinels take for the master."""
        ports = [sentinel.master_port() for sentinel in self.sentinels if sentinel.is_running]
        return self._server_at(max(ports, key=ports.count))

    def master_by(self, sentinel: SentinelServer) -> RedisServer:
        """The server that one sentinel takes for the master."""
        return self._server_at(sentinel.master_port())

    def _server_at(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    @property
    def is_whole(self) -> bool:
        """Whether all agree on a master, and both its replicas keep up with it."""
        ports = {sentinel.master_port() for sentinel in self.sentinels}
        return len(ports) == 1 and self._good_replicas(self.master) == 2

    @property
    def good_replicas(self) -> int:
        """How many replicas keep up with the master."""
        return self._good_replicas(self.master)

    def client(self) -> redis.Redis:
        """A redis-py client of the master."""
        return self.master.client()

    def fail_over(self) -> None:
        """Has the sentinels make a replica the master, and waits until all agree on it."""
        before = self.master.port
        self.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", NAME)
        eventually(lambda: self.master.port != before and self.is_whole)

    def start(self) -> None:
        """Starts all, and returns when every sentinel knows all servers and all sentinels."""
        master, *replicas = self.servers
        for server in self.servers:
            self._stack.enter_context(server)
        for replica in replicas:
            replica.client().replicaof("127.0.0.1", master.port)
        eventually(lambda: self._good_replicas(master) == 2)
        for sentinel in self.sentinels:
            self._stack.enter_context(sentinel)
        eventually(lambda: all(sentinel.knows_all() for sentinel in self.sentinels))

    def takes_itself_for_master(self, server: RedisServer) -> bool:
        """Whether a server has not been told of its replacement yet."""
        return self._replication(server).get("role") == "master"

    def _good_replicas(self, server: RedisServer) -> int:
        """How many replicas keep up with a server."""
        return int(self._replication(server).get("min_slaves_good_slaves", 0))

    def _replication(self, server: RedisServer) -> dict[str, Any]:
        """What a server says of it; nothing while it changes its part and ends connections."""
        try:
            info: Any = self._admin(server).info("replication")
        except redis.exceptions.ConnectionError:
            return {"role": "master"}
        return dict(info)

    def _admin(self, server: RedisServer) -> redis.Redis:
        """A client of one server, made once."""
        if server.port not in self._admins:
            self._admins[server.port] = server.client()
        return self._admins[server.port]

    def close(self) -> None:
        """Ends all sentinels and servers."""
        self._stack.close()
