"""Suggestions ("did you mean") for names that are not settings.

A name is either a misspelling of ours, or what redis-py, Celery, RQ or LightRAG call the same
setting.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from .namespaces import KNOWN_NAMESPACES, PER_NAMESPACE


@dataclass(frozen=True)
class Meant:
    """What was meant, and how its value is written where that is not obvious."""

    name: str
    form: str = ""

    def __str__(self) -> str:
        return f"{self.name}, as {self.form}" if self.form else self.name


_SERVER = Meant("redis_url", "redis://HOST:PORT/DATABASE")
ENCRYPTED: Final = Meant("redis_url", "rediss://HOST:PORT/DATABASE")
_SOCKET = Meant("redis_url", "redis+unix:///SOCKET?db=DATABASE")
_SENTINELS = Meant("redis_url", "redis+sentinel://HOST:PORT,HOST:PORT/DATABASE")
_CLUSTER = Meant("redis_url", "redis://HOST:PORT,redis://HOST:PORT with redis_cluster")

_CONNECTING: Final = {
    **dict.fromkeys(("uri", "dsn", "connection_string", "connection_url"), Meant("redis_url")),
    **dict.fromkeys(("host", "hostname", "server", "addr", "address", "endpoint"), _SERVER),
    **dict.fromkeys(("port", "db", "database", "db_index"), _SERVER),
    **dict.fromkeys(("socket_path", "unix_socket_path", "socket"), _SOCKET),
    **dict.fromkeys(("ssl", "tls", "use_ssl", "use_tls", "ssl_enabled", "tls_enabled"), ENCRYPTED),
    **dict.fromkeys(("sentinels", "sentinel_hosts", "sentinel_nodes"), _SENTINELS),
    **dict.fromkeys(("cluster_nodes", "cluster_url", "startup_nodes"), _CLUSTER),
    **dict.fromkeys(("user",), Meant("redis_username")),
    **dict.fromkeys(("pass", "passwd", "pwd", "auth", "auth_token"), Meant("redis_password")),
}
"""What other clients call the server and its login, by what follows ``redis_``."""

_TUNING: Final = {
    **dict.fromkeys(("ssl_ca_certs", "ssl_cafile", "ca_file"), "redis_tls_ca_file"),
    **dict.fromkeys(("ssl_certfile", "ssl_cert_file"), "redis_tls_cert_file"),
    **dict.fromkeys(("ssl_keyfile", "ssl_key_file"), "redis_tls_key_file"),
    **dict.fromkeys(("master_name", "sentinel_service_name"), "redis_sentinel_master"),
    **dict.fromkeys(("connect_timeout", "socket_connect_timeout"), "redis_connection_timeout"),
    **dict.fromkeys(("timeout", "command_timeout"), "redis_operation_timeout"),
    **dict.fromkeys(("retries", "retry_attempts"), "redis_max_retries"),
    **dict.fromkeys(("pool_size", "max_pool_size"), "redis_max_connections"),
    **dict.fromkeys(("prefix", "global_keyprefix"), "redis_key_prefix"),
    **dict.fromkeys(("namespace",), "redis_workspace"),
    **dict.fromkeys(("expire", "expiry", "default_timeout"), "redis_ttl"),
}
"""What they call the rest. An environment may well hold these for another program, and where one of
ours is needed, an error names it."""

_NAMESPACES: Final = {
    **{
        name.lower(): namespace
        for namespace, names in KNOWN_NAMESPACES.items()
        for name in names
        if name.lower() != namespace
    },
    "documents": "full_docs",
    "reports": "community_reports",
    "cache": "llm_response_cache",
    "embeddings": "embedding_cache",
}

# A Service named redis, redis-master or redis-url puts these into every pod, and a linked container
# into the one that links it: https://kubernetes.io/docs/concepts/services-networking/service/
_INJECTED: Final = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$"
)
_INJECTED_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def is_injected(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker puts such a variable into containers, for no program of ours."""
    if name.endswith("_PORT") and _INJECTED_ADDRESS.match(value):
        return True
    return _INJECTED.search(name) is not None


def meant_by_key(key: str, known: Collection[str]) -> str:
    """What the unknown ``key`` stands for among the ``known`` ones; empty for no idea."""
    name = key.lower()
    if name in known:
        return name
    foreign = _foreign(name)
    if foreign:
        return str(foreign)
    for setting in PER_NAMESPACE:
        if name.startswith(f"{setting}_"):
            namespaces = [*like(name.removeprefix(f"{setting}_"), KNOWN_NAMESPACES, _NAMESPACES)]
            single = [f"{setting}_{each}" for each in namespaces]
            if single:
                whole = [f"{setting}={{{each!r}: ...}}" for each in namespaces]
                return " or ".join(single if {*single} <= {*known} else whole)
    return " or ".join(like(name, known))


def is_slip_of_ours(key: str, known: Iterable[str]) -> bool:
    """Whether ``key``, which does not begin as ours do, was meant to: ``reds_url``."""
    return any(is_slip(key.lower(), each) for each in known if each != "working_dir")


def meant_by_variable(name: str, known: Collection[str]) -> Meant | None:
    """What the environment variable ``name`` stands for; None if it is no business of ours.

    A variable may be another program's, so only an address, a login or a slip of the keyboard is
    taken for one that was meant for us.
    """
    lower = name.lower()
    if not lower.startswith("redis_"):
        return None
    foreign = _CONNECTING.get(lower.removeprefix("redis_"))
    if foreign:
        return Meant(foreign.name.upper(), foreign.form)
    upper = name.upper()
    near = [upper] if upper in known else [each for each in known if is_slip(upper, each)]
    return Meant(" or ".join(near)) if near else None


def meant_by_namespace(name: str) -> str:
    """The known namespace that ``name`` stands for; empty for one of them or another."""
    if name in KNOWN_NAMESPACES:
        return ""
    return " or ".join(like(name.lower(), KNOWN_NAMESPACES, _NAMESPACES))


def like(name: str, known: Iterable[str], others: dict[str, str] | None = None) -> list[str]:
    """The ``known`` names that ``name`` is most likely to stand for: as a rule one, or none.

    ``redis_man_connections`` is one slip from two of them.
    """
    known = list(known)
    if name in known:
        return [name]
    if others and name in others:
        return [others[name]]
    slips = [each for each in known if is_slip(name, each)]
    return slips or difflib.get_close_matches(name, known, n=1, cutoff=0.8)


def is_slip(name: str, meant: str) -> bool:
    """Whether one letter is missing, added, wrong, or swapped with its neighbour.

    >>> is_slip("redis_workspce", "redis_workspace"), is_slip("redis_port", "redis_ttl")
    (True, False)
    """
    ours, theirs = name, meant
    while ours and theirs and ours[0] == theirs[0]:
        ours, theirs = ours[1:], theirs[1:]
    while ours and theirs and ours[-1] == theirs[-1]:
        ours, theirs = ours[:-1], theirs[:-1]
    if max(len(ours), len(theirs)) == 1:
        return True
    return len(ours) == len(theirs) == 2 and ours == theirs[::-1]  # noqa: PLR2004


def _foreign(name: str) -> Meant | None:
    _, prefix, rest = name.partition("redis_")
    if not prefix:
        return None
    return _CONNECTING.get(rest) or (Meant(_TUNING[rest]) if rest in _TUNING else None)
