"""The kinds of server that the contract holds on, beside the plain ones of every test."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nano_graphrag_redis import RedisConfig
from nano_graphrag_redis.acl import acl_rules
from nano_graphrag_redis.exceptions import StorageConfigError
from support.certificates import Authority, tls_options
from support.cluster import RedisCluster
from support.sentinel import Sentinels
from support.servers import RedisServer, server_binaries
from support.stores import Settings

USER, PASSWORD = "graph", "of the graph"


@dataclass
class Place:
    """A running server of some kind.

    Attributes:
        server: Itself, or the one that is written to; its clients may do everything.
        settings: What a storage has to know to reach it.
        permit: Has it permit what a storage with these settings does.
        prepare: Makes it as it was at first, before each test.
        complaints: What it has refused our storages since then, or else minded about them.
    """

    server: RedisServer | RedisCluster
    settings: Settings
    permit: Callable[[Settings], None] = lambda _: None
    prepare: Callable[[], None] = lambda: None
    complaints: Callable[[], list[str]] = field(default=list)


OpenPlace = Callable[[], AbstractContextManager[Place]]


@contextmanager
def least_privilege(binary: Path) -> Iterator[Place]:
    """A server whose storages log in as the user that the ACL line makes."""
    with RedisServer(binary, password="of the operator") as server:
        admin = server.client()
        info: Any = admin.info("server")
        version = info.get("valkey_version", info["redis_version"]).split(".")
        settings: Settings = {
            "redis_url": server.url,
            "redis_username": USER,
            "redis_password": PASSWORD,
        }

        def prepare() -> None:
            admin.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}")
            admin.execute_command("ACL", "LOG", "RESET")
            permit(settings)

        def permit(settings: Settings) -> None:
            try:
                config = RedisConfig.from_global_config(settings)
            except StorageConfigError:
                return  # the storage will say so too
            rules = acl_rules(config, server=(int(version[0]), int(version[1])))
            admin.execute_command("ACL", "SETUSER", USER, *rules)

        def complaints() -> list[str]:
            log: Any = admin.acl_log()
            refused = [f"{entry['reason']} {entry['object']}" for entry in log]
            # Statistics do without it, and say nothing about the server's memory.
            return [refusal for refusal in refused if refusal != "command info"]

        yield Place(server, settings, permit, prepare, complaints)


@contextmanager
def tls(*, mutual: bool) -> Iterator[Place]:
    """A server that speaks TLS alone, and asks clients for a certificate or not.

    Debian's: the Valkey of the wheel is built without.
    """
    with tempfile.TemporaryDirectory(prefix="ngr-tls-") as directory:
        authority = Authority(Path(directory))
        server_own, client_own = authority.issue("server"), authority.issue("client")
        options = tls_options(server_own, ca=authority, clients=authority if mutual else None)
        with RedisServer(server_binaries()["redis"], tls=True, **options) as server:
            settings: Settings = {"redis_url": server.url, **authority.settings}
            yield Place(server, settings | (client_own.settings if mutual else {}))


@contextmanager
def on_a_cluster(binary: Path) -> Iterator[Place]:
    """Three primaries, each with some of the keys."""
    with RedisCluster(binary) as cluster:
        yield Place(cluster, {"redis_url": cluster.url, "redis_cluster": True})


@contextmanager
def behind_sentinels() -> Iterator[Place]:
    """A master with replicas, which sentinels watch."""
    # A busy machine may keep the replicas waiting, which is no matter here.
    with Sentinels(min_replicas_max_lag="20") as sentinels:
        yield Place(sentinels.master, sentinels.settings)


@functools.cache
def places() -> Mapping[str, OpenPlace]:
    """Every kind, by name."""
    users: dict[str, OpenPlace] = {
        f"user-{name}": lambda binary=binary: least_privilege(binary)  # type: ignore[misc]
        for name, binary in server_binaries().items()
    }
    secure: dict[str, OpenPlace] = {
        "tls": lambda: tls(mutual=False),
        "mtls": lambda: tls(mutual=True),
    }
    clusters: dict[str, OpenPlace] = {
        f"cluster-{name}": lambda binary=binary: on_a_cluster(binary)  # type: ignore[misc]
        for name, binary in server_binaries().items()
    }
    watched: dict[str, OpenPlace] = {"sentinel": behind_sentinels}
    return users | clusters | watched | (secure if "redis" in server_binaries() else {})
