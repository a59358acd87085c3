"""A real Redis Cluster for the tests: three primaries, with a replica each or none, on loopback."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from redis.cluster import ClusterNode
from redis.crc import key_slot

from .bus import Bus
from .conditions import eventually
from .guard import Guard
from .servers import HAVING_CLIENTS, RedisServer

SLOTS = 16_384
NODE_TIMEOUT = 2.0
"""Seconds of silence after which the others take a server for dead."""


class ClusterClient(redis.RedisCluster):
    """redis-py's client, with what it lacks. All have the same, so no one's `with` closes it."""

    def __exit__(self, *_: object) -> None:
        """Leaves it open: its cluster closes it."""

    def mset(self, mapping: Any) -> Any:
        return self.mset_nonatomic(mapping)

    def keys(self, pattern: Any = "*", **_: Any) -> Any:
        return super().keys(pattern, target_nodes=self.PRIMARIES)

    def dbsize(self, **_: Any) -> Any:
        return super().dbsize(target_nodes=self.PRIMARIES)


class RedisCluster(Guard):
    """Three primaries at first, and then their replicas in the same order.

    Args:
        binary: The server to run; Valkey when not given.
        replicas: Whether there are any.
        bus: What the servers hear each other over, where a test cuts some of them off.
        options: Configuration of each server, as for ``RedisServer``.

    Example:
        with RedisCluster() as cluster:
            cluster.primary_of("key").kill()
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        replicas: bool = True,
        bus: Bus | None = None,
        **options: Any,
    ) -> None:
        self._stack = ExitStack()
        # The bus has a port of its own: the usual one, 10,000 further, may be none.
        self._buses = [_reserved(self._stack) for _ in range(6 if replicas else 3)]
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(int(NODE_TIMEOUT * 1000)),
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
        }
        self._bus = bus
        self._announced_buses = [bus.behind(port) if bus else port for port in self._buses]
        ports = zip(self._buses, self._announced_buses, strict=True)
        self.servers = [
            RedisServer(binary, **(settings | _bus_options(port, announced) | options))
            for port, announced in ports
        ]
        self._admins: dict[int, redis.Redis] = {}
        self._client: ClusterClient | None = None
        HAVING_CLIENTS.add(self)

    @property
    def url(self) -> str:
        """The first primaries, comma-separated."""
        return ",".join(server.url for server in self.servers[:3])

    @property
    def log(self) -> str:
        """What all servers have logged."""
        return "\n".join(f"port {server.port}:\n{server.log}" for server in self.servers)

    def client(self) -> ClusterClient:
        """The redis-py client of the cluster; closed together with it."""
        if self._client is None:
            nodes = [ClusterNode("127.0.0.1", server.port) for server in self.servers]
            self._client = ClusterClient(startup_nodes=nodes)
        return self._client

    def disconnect_clients(self) -> None:
        """Ends the connections of the client; its servers end those of theirs."""
        if self._client is not None:
            client: Any = self._client  # whose method redis-py leaves untyped
            client.disconnect_connection_pools()

    def admin(self, server: RedisServer) -> redis.Redis:
        """A client of one server alone."""
        if server.port not in self._admins:
            self._admins[server.port] = server.client()
        return self._admins[server.port]

    def primaries(self) -> list[RedisServer]:
        """The servers that run and have slots."""
        running = [server for server in self.servers if server.is_running]
        return [server for server in running if self.slots_of(server)]

    def primary_of(self, key: str) -> RedisServer:
        """The server that has the key's slot."""
        return self.owner_of(key_slot(key.encode()))

    def owner_of(self, slot: int) -> RedisServer:
        """The server that has a slot."""
        running = (server for server in self.servers if server.is_running)
        return next(server for server in running if slot in self.slots_of(server))

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """A server that follows this one."""
        running = [server for server in self.servers if server.is_running]
        ports = {server: self.admin(server).info("replication") for server in running}
        followed: Any = {server: facts.get("master_port") for server, facts in ports.items()}
        return next(server for server in running if followed[server] == primary.port)

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Moves a slot from one primary to another, key by key, as redis-cli does."""
        self.begin_move(slot, source, target)
        while self.move_some(slot, source, target, 20):
            pass
        self.end_move(slot, target)

    def move_some(self, slot: int, source: RedisServer, target: RedisServer, count: int) -> int:
        """Moves up to so many keys of a slot that is on its way; how many it moved."""
        sender = self.admin(source)
        keys: Any = sender.cluster("GETKEYSINSLOT", slot, count)
        if keys:
            sender.migrate("127.0.0.1", target.port, keys, 0, 5_000)
        return len(keys)

    def end_move(self, slot: int, target: RedisServer) -> None:
        """Has a slot arrive."""
        name = self.admin(target).cluster("MYID")
        for server in sorted(self.servers[:3], key=lambda server: server is not target):
            self.admin(server).cluster("SETSLOT", slot, "NODE", name)

    def behind(self, ports: Mapping[int, int]) -> None:
        """Has the servers at these ports tell clients others, where a proxy listens."""
        for server in self.servers:
            self.admin(server).config_set("cluster-announce-port", ports[server.port])
        told = set(ports.values())
        eventually(lambda: all(self._announced(server) == told for server in self.servers))

    def _announced(self, server: RedisServer) -> set[int]:
        slots: Any = self.admin(server).execute_command("CLUSTER", "SLOTS")
        return {run[2][1] for run in slots}

    def begin_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Has a slot on its way, and no key yet."""
        sender, receiver = self.admin(source), self.admin(target)
        receiver.cluster("SETSLOT", slot, "IMPORTING", sender.cluster("MYID"))
        sender.cluster("SETSLOT", slot, "MIGRATING", receiver.cluster("MYID"))

    def agrees(self, owners: Mapping[int, RedisServer]) -> bool:
        """Whether each primary says that these slots are where they are said to be."""
        names = {slot: self.admin(server).cluster("MYID") for slot, server in owners.items()}
        return all(
            {slot: told.get(slot) for slot in names} == names
            for told in map(self._owners, self.primaries())
        )

    def _owners(self, server: RedisServer) -> dict[int, bytes]:
        runs: Any = self.admin(server).execute_command("CLUSTER", "SLOTS")
        return {slot: run[2][2] for run in runs for slot in range(run[0], run[1] + 1)}

    def isolate(self, *servers: RedisServer) -> None:
        """Cuts these servers off from the others, which clients reach as before; none heals."""
        assert self._bus is not None
        ports = [self._announced_buses[self.servers.index(server)] for server in servers]
        self._bus.isolate(*ports)

    def start(self) -> None:
        """Starts the servers and returns when the cluster serves all slots."""
        for server in self.servers:
            self._stack.enter_context(server)
        admins = [self.admin(server) for server in self.servers]
        for epoch, admin in enumerate(admins, 1):
            admin.cluster("SET-CONFIG-EPOCH", epoch)
        if self._bus is not None:
            for admin, bus in zip(admins, self._announced_buses, strict=True):
                self._bus.knows(admin.cluster("MYID"), bus)
        for server, bus in zip(self.servers[1:], self._announced_buses[1:], strict=True):
            admins[0].cluster("MEET", "127.0.0.1", server.port, bus)
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        for admin, start, end in zip(admins[:3], bounds, bounds[1:], strict=False):
            admin.cluster("ADDSLOTSRANGE", start, end - 1)
        known = len(self.servers)
        eventually(lambda: all(len(self._nodes(server)) == known for server in self.servers))
        for primary, replica in zip(admins[:3], admins[3:], strict=False):
            replica.cluster("REPLICATE", primary.cluster("MYID"))
        eventually(self.is_whole)

    def is_whole(self) -> bool:
        """Whether every server runs, sees all slots served, and has its replica or its primary."""
        return all(self._is_content(server) for server in self.servers)

    def _is_content(self, server: RedisServer) -> bool:
        if not server.is_running:
            return False
        state: Any = self.admin(server).execute_command("CLUSTER", "INFO")
        replication: Any = self.admin(server).info("replication")
        linked = replication.get("master_link_status") == "up"
        followed = replication.get("slave0", {}).get("state") == "online"
        alone = len(self.servers) == 3
        return b"cluster_state:ok" in state and (linked or followed or alone)

    def _nodes(self, server: RedisServer) -> list[list[str]]:
        """What a server knows of all: the words of each line of CLUSTER NODES."""
        text: Any = self.admin(server).execute_command("CLUSTER", "NODES")
        return [line.split() for line in text.decode().splitlines()]

    def slots_of(self, server: RedisServer) -> set[int]:
        """The slots that a server takes for its own."""
        myself = next(words for words in self._nodes(server) if "myself" in words[2])
        runs = [run.split("-") for run in myself[8:] if not run.startswith("[")]
        return {slot for run in runs for slot in range(int(run[0]), int(run[-1]) + 1)}

    def close(self) -> None:
        """Ends all servers and gives their ports back."""
        if self._client is not None:
            self._client.close()
        self._stack.close()


def _bus_options(port: int, announced: int) -> dict[str, str]:
    options = {"cluster-port": str(port)}
    if announced != port:
        options["cluster-announce-bus-port"] = str(announced)
    return options


def _reserved(stack: ExitStack) -> int:
    """A port that stays ours, bound and never listened on, until the stack is closed."""
    reservation = stack.enter_context(socket.socket())
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    port: int = reservation.getsockname()[1]
    return port
