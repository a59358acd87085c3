"""Off means off: with the settings at their defaults each call sends these commands, and no other.

What workers share (single flight, sets of reports that are replaced, the stream of changes, times
to live that are renewed) is off by default. A server's MONITOR shows that it then sends nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis

from nano_graphrag_redis import RedisKVStorage
from support.conditions import eventually
from support.servers import RedisServer

PATIENT = {
    "redis_connection_timeout": 60.0,
    "redis_socket_timeout": 60.0,
    "redis_operation_timeout": 120.0,
    # An idle connection is asked in the background, whatever is called.
    "redis_health_check_interval": 0,
}
"""Nothing is sent a second time because the machine was busy."""

OFF = {
    "redis_single_flight": "off",
    "redis_cache_embeddings": "off",
    "redis_deferred_drop": False,
    "redis_changes": False,
    "redis_ttl_sliding": False,
    "redis_registry": False,
    "redis_dual_write": False,
    "redis_near_cache_mb": 0,
}

VALUES = {"a": {"return": "x"}, "b": {"return": "y"}}

CALLS: list[tuple[str, tuple[Any, ...], list[str]]] = [
    ("get_by_id", ("a",), ["GET {a}"]),
    (
        # What was kept in a registry by others is complete no more, from the first write on.
        "upsert",
        (VALUES,),
        [
            'SET {a} {{"return":"x"}}{ttl}',
            'SET {b} {{"return":"y"}}{ttl}',
            "ZREMRANGEBYSCORE {registry} (9000000000000000 +inf",
        ],
    ),
    ("upsert", (VALUES,), ['SET {a} {{"return":"x"}}{ttl}', 'SET {b} {{"return":"y"}}{ttl}']),
    ("get_by_id", ("a",), ["GET {a}"]),
    ("get_by_ids", (["a", "b", "c"],), ["GET {a}", "GET {b}", "GET {c}"]),
    ("get_by_ids", (["a", "c"], {"return"}), ["GET {a}", "GET {c}"]),
    ("filter_keys", (["a", "c"],), ["EXISTS {a}", "EXISTS {c}"]),
    ("all_keys", (), ["SCAN 0 MATCH {all} COUNT 1000"]),
    ("index_start_callback", (), []),
    ("index_done_callback", (), []),
    ("query_done_callback", (), []),
    # A delete is not repeated: the connection is tried first.
    ("delete_by_id", ("a",), ["PING", "UNLINK {a}"]),
    ("delete_by_ids", (["a", "b"],), ["PING", "UNLINK {a}", "UNLINK {b}"]),
    ("upsert", ({"a": 1},), ["SET {a} 1{ttl}"]),
    ("drop", (), ["SCAN 0 MATCH {all} COUNT 1000", "UNLINK {a}"]),
    ("index_done_callback", (), []),
    ("drop", (), ["SCAN 0 MATCH {all} COUNT 1000"]),
    ("check_health", (), ["PING"]),
    ("get_stats", (), ["SCAN 0 MATCH {all} COUNT 1000", "INFO memory"]),
    ("get_stats", (True,), ["SCAN 0 MATCH {all} COUNT 1000"]),
]
"""Each call of a storage, one after another, and what it sends."""

TTL = dict.fromkeys(("llm_response_cache", "embedding_cache"), " EX 43200")


class Wire:
    """What clients other than this send to a server, call by call."""

    def __init__(self, client: redis.Redis, monitor: Any) -> None:
        self._client = client
        self._monitor = monitor

    def since(self, what: str) -> list[str]:
        """The commands since the last time; what new connections are called is left out."""
        self._client.echo(f"after {what}")
        seen = []
        while (said := self._monitor.next_command()["command"]) != f"ECHO after {what}":
            if not said.startswith("CLIENT SET"):
                seen.append(said)
        return seen


@contextmanager
def watched(server: RedisServer) -> Iterator[Wire]:
    """Watches a server from now on."""
    with server.client() as client, server.client() as other, client.monitor() as monitor:
        other.ping()
        wire = Wire(other, monitor)
        wire.since("connecting")
        yield wire


def expected(words: list[str], namespace: str) -> list[str]:
    key = f"nano_graphrag:{namespace}:"
    names = {
        **{id: f"{key}{id}" for id in "abc"},
        "all": f"{key}*",
        "registry": f"nano_graphrag:@registry:{namespace}",
        "ttl": TTL.get(namespace, ""),
    }
    return [each.format_map(names) for each in words]


@pytest.mark.parametrize("settings", [{}, OFF], ids=["defaults", "all off"])
@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize(
    "namespace", ["llm_response_cache", "community_reports", "text_chunks", "embedding_cache"]
)
def test_off_each_call_sends_these_commands_and_no_other(
    namespace: str, kind: str, settings: dict[str, Any], server: RedisServer
) -> None:
    storage = opened(namespace, server, **settings)

    async def awaited(wire: Wire) -> None:
        for number, (name, given, sent) in enumerate(CALLS):
            await asyncio.create_task(getattr(storage, name)(*given))
            assert wire.since(f"call {number}") == expected(sent, namespace), name

    def blocking(wire: Wire) -> None:
        for number, (name, given, sent) in enumerate(CALLS):
            getattr(storage.sync, name)(*given)
            assert wire.since(f"call {number}") == expected(sent, namespace), name

    with watched(server) as wire, closing(storage.sync):
        first_used(storage, wire)
        if kind == "async":
            asyncio.run(awaited(wire))
        else:
            blocking(wire)
        changes_are_recorded(server)
        sent_later = [words for words in wire.since("all calls") if namespace in words]
        assert sent_later == []


def test_off_callers_of_one_id_at_once_send_a_command_each(server: RedisServer) -> None:
    cache = opened("llm_response_cache", server)

    async def at_once() -> None:
        assert await asyncio.gather(*(cache.get_by_id("a") for _ in range(3))) == [None] * 3

    with watched(server) as wire, closing(cache.sync):
        first_used(cache, wire)
        asyncio.run(at_once())
        assert wire.since("all three") == expected(["GET {a}"] * 3, "llm_response_cache")


NUMBERS = itertools.count(50)


def opened(namespace: str, server: RedisServer, **settings: Any) -> RedisKVStorage:
    """A storage over connections of its own, over which nobody has looked at the server yet."""
    own = {"redis_url": server.url, "redis_max_connections": next(NUMBERS)}
    return RedisKVStorage(namespace, {**own, **PATIENT, **settings})


def first_used(storage: RedisKVStorage, wire: Wire) -> None:
    """Calls a storage for the first time, which looks once at what the server is and keeps."""
    storage.sync.get_by_id("first use")
    looks = [f"INFO {section}" for section in ("server", "memory", "persistence")]
    first = f"GET nano_graphrag:{storage.namespace}:first use"
    assert sorted(wire.since("the first use")) == sorted([first, *looks])


def changes_are_recorded(server: RedisServer) -> None:
    """Lets pass what a call sends in the background, a while after its answer."""
    control = opened("control", server, redis_changes=True)
    with closing(control.sync), server.client() as client:
        control.sync.upsert({"a": 1})
        eventually(lambda: bool(client.exists("nano_graphrag:@changes:control")), within=60)
