"""The checks of the server: what it is, what it may lose, whether it can go on."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from rich import filesize

from nano_graphrag_redis.acl import OF_COMMANDS, TRANSACTIONS, acl_rules
from nano_graphrag_redis.doctor.findings import Finding, Severity
from nano_graphrag_redis.doctor.target import Facts, Target
from nano_graphrag_redis.exceptions import StorageOperationError
from nano_graphrag_redis.humanize import plural

OLDEST: Final = (6, 2)
"""The oldest version that the tests run on, or that has every command that is used."""

FULL: Final = 0.9
"""Share of the memory from which it counts as nearly full."""

_SLOTS_IN_FLIGHT: Final = "cluster|nodes"
"""The command that tells which slots are being moved. Without it some things take longer."""

PINGS: Final = 100
SLOW: Final = 0.05
"""Seconds of a median PING from which the server counts as slow."""

BEHIND: Final = 10
"""Seconds since a replica last said how far it is, from which it counts as lagging: they say it
every second."""


_EVICTION: Final = "a server that is full deletes documents, chunks and reports, and tells nobody"
_FULL: Final = (
    "a server that is full refuses writes, or evicts what has a TTL; one that fills the machine is "
    "killed"
)
_CRASH: Final = "a crash loses all that was written since the last snapshot"


def version(target: Target) -> Iterator[Finding]:
    """Which server it is, and whether it is old."""
    for address, facts in target.info("server"):
        name, number = ("Valkey", facts.get("valkey_version")) if "valkey_version" in facts else (
            "Redis",
            facts.get("redis_version"),
        )  # fmt: skip
        found = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", number or "")
        mode = facts.get("server_mode", facts.get("redis_mode", "standalone"))
        title = f"{name} {number}, {mode}, at {address}"
        if not found:
            why = "no version below 6.2 is tested"
            yield _unsaid("version", "the server's version", address, why)
        elif (int(found[1]), int(found[2])) < OLDEST:
            yield Finding(
                "version",
                Severity.WARNING,
                title,
                why="no version below 6.2 is tested, and the near cache needs 6.0",
                remedy="upgrade the server to Redis 7.2 or newer, or to Valkey",
            )
        else:
            yield Finding("version", Severity.OK, title)


def latency(target: Target) -> Iterator[Finding]:
    """How long the server takes to answer, as percentiles of a hundred PINGs."""
    store, times = target.any_store, []
    for _ in range(PINGS):
        began = time.perf_counter()
        with suppress(StorageOperationError):  # an error takes as long as an answer
            store.ping()
        times.append(time.perf_counter() - began)
    cuts = statistics.quantiles(times, n=100)
    title = f"PING takes {', '.join(f'p{p} {cuts[p - 1] * 1000:.2f} ms' for p in (50, 95, 99))}"
    if cuts[49] > SLOW:
        yield Finding(
            "latency",
            Severity.WARNING,
            title,
            why="every call of the host waits at least so long",
            remedy="bring the server nearer, or look at its SLOWLOG and its load",
        )
    else:
        yield Finding("latency", Severity.OK, title)


def rights(target: Target) -> Iterator[Finding]:
    """Whether the user may do what the settings ask for."""
    needed = {rule.removeprefix("+") for rule in acl_rules(target.config) if rule[0] == "+"}
    forbidden = set(target.any_store.forbidden())
    if needed & forbidden & {_SLOTS_IN_FLIGHT}:
        yield Finding(
            "rights",
            Severity.WARNING,
            f"this user may not call {_SLOTS_IN_FLIGHT}, which says what slots are being moved",
            why="whoever lists or drops all ids walks over every key twice, to miss none",
            remedy="make the user anew with the line that doctor --acl prints",
        )
    if transactions := sorted(needed & forbidden & TRANSACTIONS):
        yield Finding(
            "rights",
            Severity.WARNING,
            f"this user may not call {', '.join(transactions)}, or the server does not have it",
            why="redis_deferred_drop replaces reports one by one: readers beside it find old and "
            "new ones, as does everyone after a process was killed meanwhile",
            remedy="make the user anew with the line that doctor --acl prints",
        )
    if of_commands := sorted(needed & forbidden & OF_COMMANDS):
        yield Finding(
            "rights",
            Severity.WARNING,
            f"this user may not call {', '.join(of_commands)}, or the server does not have it",
            why="this looks at no contents and prune at no ages without type, and --repair lets "
            "nothing live for ever without persist",
            remedy="make the user anew with the line that doctor --acl prints",
        )
    if missing := sorted(forbidden & needed - {_SLOTS_IN_FLIGHT} - TRANSACTIONS - OF_COMMANDS):
        yield Finding(
            "rights",
            Severity.ERROR,
            f"this user may not call {', '.join(missing)}, or the server does not have it",
            why="what these settings ask for fails with StorageOperationError",
            remedy="make the user anew with the line that doctor --acl prints; a command that was "
            "renamed or disabled has to be given back",
        )


def unseen(target: Target) -> Iterator[Finding]:
    """What could not be looked at, so that nothing is known of it."""
    refused = [what for section, what in _SECTIONS.items() if not target.info(section)]
    if not refused:
        return
    error = str(next(iter(target.refused.values()), "no server answered"))
    yield Finding(
        "rights",
        Severity.WARNING,
        f"not looked at: {', '.join(refused)}, because INFO was refused at "
        f"{target.config.redis_url}: {error}",
        why="a server that evicts documents, loses them in a crash or has no replicas goes "
        "unnoticed",
        remedy="examine it as another user too, one who may call INFO"
        if "NOPERM" in error
        else "look at them where the server is managed: maxmemory-policy has to be volatile-lru "
        "or noeviction, and the append-only file on",
    )


_SECTIONS: Final = {
    "server": "version",
    "memory": "maxmemory-policy, memory",
    "persistence": "append-only file, snapshots",
    "replication": "replicas",
}
"""The sections of INFO that the checks read, and what they look for there."""


def _unsaid(check: str, what: str, address: str, why: str) -> Finding:
    """INFO was answered, without what is looked for."""
    return Finding(
        check,
        Severity.WARNING,
        f"{what} is not known: INFO at {address} does not say it",
        why=why,
        remedy="look where the server is managed, or ask its provider",
    )


def eviction_policy(target: Target) -> Iterator[Finding]:
    """Whether the server may delete documents when its memory is full."""
    for address, facts in target.info("memory"):
        policy = facts.get("maxmemory_policy", "")
        if not policy:
            yield _unsaid("eviction-policy", "maxmemory-policy", address, _EVICTION)
        elif policy.startswith("allkeys-"):
            yield Finding(
                "eviction-policy",
                Severity.ERROR,
                f"maxmemory-policy is {policy} at {address}",
                why=_EVICTION,
                remedy="CONFIG SET maxmemory-policy volatile-lru (cached answers go first) or "
                "noeviction, and the same in its configuration file",
            )
        else:
            yield Finding(
                "eviction-policy", Severity.OK, f"maxmemory-policy is {policy} at {address}"
            )


def memory(target: Target) -> Iterator[Finding]:
    """How much room is left."""
    for address, facts in target.info("memory"):
        used, most = _number(facts, "used_memory"), _number(facts, "maxmemory")
        limit, of = (most, "maxmemory") if most else (
            _number(facts, "total_system_memory"),
            "the machine's memory",
        )  # fmt: skip
        if not limit or used is None:
            yield _unsaid("memory", "the room that is left", address, _FULL)
            continue
        amounts = f"{filesize.decimal(used)} of {filesize.decimal(limit)}"
        title = f"{used / limit:.0%} of {of} used at {address} ({amounts})"
        if used > FULL * limit:
            yield Finding(
                "memory",
                Severity.ERROR,
                title,
                why=_FULL,
                remedy="raise maxmemory or move to a larger machine; redis_compression=zstd "
                "stores text in a third of the bytes",
            )
        else:
            yield Finding("memory", Severity.OK, title)


def persistence(target: Target) -> Iterator[Finding]:
    """What survives a crash of the server."""
    for address, facts in target.info("persistence"):
        if facts.get("aof_enabled") == "1":
            yield Finding("append-only", Severity.OK, f"the append-only file is on at {address}")
        elif "aof_enabled" not in facts:
            yield _unsaid("append-only", "the append-only file", address, _CRASH)
        else:
            yield Finding(
                "append-only",
                Severity.WARNING,
                f"the append-only file is off at {address}",
                why=_CRASH,
                remedy="CONFIG SET appendonly yes, and the same in its configuration file",
            )
        failed = [
            f"{what} ({name})"
            for name, what in _WRITES.items()
            if facts.get(name, "ok") not in {"ok", ""}
        ]
        if failed:
            yield Finding(
                "persistence-failed",
                Severity.ERROR,
                f"the last {', '.join(failed)} failed at {address}",
                why="what is written now is lost with the next crash, and the server may refuse "
                "writes until it can persist them",
                remedy="see the server's log: as a rule its disk is full or not writable",
            )


_WRITES: Final = {
    "aof_last_write_status": "write to the append-only file",
    "aof_last_bgrewrite_status": "rewrite of the append-only file",
    "rdb_last_bgsave_status": "snapshot",
}


def replication(target: Target) -> Iterator[Finding]:
    """Whether the replicas are there and keep up."""
    for address, facts in target.info("replication"):
        if "role" not in facts:
            why = "a replica refuses every write, and a primary without replicas has no successor"
            yield _unsaid("replication", "its role", address, why)
            continue
        if facts["role"] == "slave":
            primary = f"{facts.get('master_host')}:{facts.get('master_port')}"
            up = facts.get("master_link_status") == "up"
            yield Finding(
                "replication",
                Severity.ERROR,
                f"{address} is a replica of {primary}, and its link is {'up' if up else 'down'}",
                why="a replica refuses every write"
                + ("" if up else ", and this one is out of date"),
                remedy="redis_url must name the primary"
                + ("" if up else f"; see this server's log for why it does not reach {primary}"),
            )
            continue
        yield from _replicas(target, address, facts)


def _replicas(target: Target, address: str, facts: Facts) -> Iterator[Finding]:
    lines = [value for name, value in facts.items() if re.fullmatch(r"slave\d+", name)]
    replicas = [
        {name: said for name, _, said in (part.partition("=") for part in line.split(","))}
        for line in lines
    ]
    late = [one for one in replicas if not _keeps_up(one)]
    if late:
        names = ", ".join(f"{one.get('ip')}:{one.get('port')} ({one.get('state')})" for one in late)
        yield Finding(
            "replication",
            Severity.ERROR,
            f"{len(late)} of {len(replicas)} replicas of {address} do not keep up: {names}",
            why="what is written now is lost if the primary is",
            remedy="see the replicas' logs; a link that breaks again and again wants a larger "
            "client-output-buffer-limit for replicas, or a larger repl-backlog-size",
        )
    asked = re.search(r"replicas:(\d+)", target.config.redis_durability)
    if asked and int(asked[1]) > len(replicas) - len(late):
        yield Finding(
            "durability",
            Severity.ERROR,
            f"redis_durability={target.config.redis_durability} asks for more replicas than keep "
            f"up: {len(replicas) - len(late)} at {address}",
            why="every index_done_callback raises DurabilityError",
            remedy="add replicas, or lower redis_durability",
        )
    elif not late:
        yield Finding(
            "replication",
            Severity.OK,
            f"{address} is a primary with {plural(len(replicas), 'replica')}",
        )


def _keeps_up(replica: Facts) -> bool:
    return replica.get("state") == "online" and (_number(replica, "lag") or 0) < BEHIND


def _number(facts: Facts, name: str) -> int | None:
    """A number that the server says; None if it says none."""
    said = facts.get(name, "")
    return int(said) if re.fullmatch("[0-9]{1,20}", said) else None
