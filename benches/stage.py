"""The server with every peer opened on it, filled, and seen to give the same answers."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import Any

import redis
import redis.utils

from benches.payloads import Payloads, Table
from benches.peers import FILES, OURS, NearPeer, Peer
from benches.server import Server
from benches.workload import CHUNKS, Stores
from benches.workloads import FIELDS

NEAR = "near_chunks"
"""The namespace of the chunks that local copies are kept of."""


WORD_WITHIN = 5.0
"""Seconds in which word of a change has to have taken a local copy away."""


class DisagreementError(AssertionError):
    """A peer's answer is not what was stored, so its speed means nothing."""


@dataclass(frozen=True)
class Entrant:
    """A peer and its open storages."""

    peer: Peer
    stores: Stores


def require_hiredis() -> None:
    """See that redis-py parses in C, as whoever cares for speed has it.

    Raises:
        RuntimeError: It does not; the message says what to run instead.
    """
    if not redis.utils.HIREDIS_AVAILABLE:
        raise RuntimeError("redis-py has no hiredis here; run it by .venvs/bench/bin/python.")


async def enter(peers: list[Peer], server: Server, payloads: Payloads) -> list[Entrant]:
    """Open every peer on every namespace, store the payloads, and compare the answers.

    Raises:
        DisagreementError: It names the peer, the call and the namespace.
        RuntimeError: redis-py is without hiredis here.
    """
    require_hiredis()
    entrants = []
    for peer in peers:
        stores = Stores(
            {name: await peer.open(server, name) for name in payloads.tables()},
            peer.open_blocking(server, CHUNKS),
        )
        entrants.append(Entrant(peer, stores))
        for namespace, table in payloads.tables().items():
            await store_and_compare(peer.title, stores.by_namespace[namespace], namespace, table)
            if peer.name != FILES:
                _compare_bytes(peer, server, namespace, table)
        if stores.blocking:
            for id, value in payloads.text_chunks.items():
                answer = stores.blocking.get_by_id(id)
                _expect(peer.title, "blocking get_by_id", CHUNKS, answer, value)
    return entrants


async def enter_near(entrants: list[Entrant], server: Server, payloads: Payloads) -> list[Entrant]:
    """The same entrants, with local copies of the chunks where a peer can keep any.

    Opened when nothing else is measured: a client may ask to be told of every write there is.

    Raises:
        DisagreementError: As in `enter`, or a copy outlived its value.
    """
    opened = []
    for entrant in entrants:
        peer, near = entrant.peer, None
        if isinstance(peer, NearPeer):
            near = await peer.open_near(server, NEAR)
            await store_and_compare(peer.title, near, NEAR, payloads.text_chunks)
            _compare_bytes(peer, server, NEAR, payloads.text_chunks)
            await _change_behind(peer, near, server, payloads)
        opened.append(replace(entrant, stores=replace(entrant.stores, near=near)))
    return opened


async def leave_near(entrants: list[Entrant]) -> None:
    """Close what `enter_near` opened."""
    for entrant in entrants:
        if entrant.stores.near:
            await entrant.stores.near.close()


def memory_per_byte(server: Server, payloads: Payloads) -> dict[str, float]:
    """Bytes the server spends on each byte that this library stored, by namespace."""
    spent = {}
    with redis.Redis.from_url(server.url) as client:
        for namespace, table in payloads.tables().items():
            keys = [f"{OURS}:{namespace}:{id}" for id in table]
            taken: Any = sum(client.memory_usage(key) or 0 for key in keys)
            stored: Any = sum(client.strlen(key) for key in keys)
            spent[namespace] = taken / stored
    return spent


async def leave(entrants: list[Entrant]) -> None:
    """Close what `enter` opened."""
    for entrant in entrants:
        for storage in entrant.stores.by_namespace.values():
            await storage.close()
        if entrant.stores.blocking:
            entrant.stores.blocking.close()


async def store_and_compare(who: str, storage: Any, namespace: str, table: Table) -> None:
    """Write the table, some of it by concurrent calls, and compare every kind of read.

    Raises:
        DisagreementError: It names who, the call and the namespace.
    """
    ids, values = list(table), list(table.values())
    absent = [f"absent-{id}" for id in ids]
    await storage.upsert(table)
    await asyncio.gather(*(storage.upsert({id: table[id]}) for id in ids[:100]))
    await storage.index_done_callback()
    answers = {
        "get_by_ids": (await storage.get_by_ids(ids), values),
        "get_by_ids of two fields": (
            await storage.get_by_ids([*ids, absent[0]], FIELDS),
            [*({k: v for k, v in value.items() if k in FIELDS} for value in values), None],
        ),
        "get_by_ids of missing ids": (await storage.get_by_ids(absent[:9]), [None] * 9),
        "get_by_id": (await asyncio.gather(*map(storage.get_by_id, ids[:64])), values[:64]),
        "get_by_id of a missing id": (await storage.get_by_id(absent[0]), None),
        "filter_keys": (await storage.filter_keys(ids + absent), set(absent)),
    }
    for call, (answer, truth) in answers.items():
        _expect(who, call, namespace, answer, truth)


async def _change_behind(peer: Peer, near: Any, server: Server, payloads: Payloads) -> None:
    """See that a copy goes when somebody else writes its value, and comes back."""
    id, value = next(iter(payloads.text_chunks.items()))
    with redis.Redis.from_url(server.url) as client:
        for text in ("1", json.dumps(value)):
            await near.get_by_id(id)
            client.set(f"{peer.name}:{NEAR}:{id}", text)
            end = time.monotonic() + WORD_WITHIN
            while (answer := await near.get_by_id(id)) != json.loads(text):
                if time.monotonic() > end:
                    _expect(peer.title, "a local copy", NEAR, answer, json.loads(text))
                await asyncio.sleep(0.001)


def _compare_bytes(peer: Peer, server: Server, namespace: str, table: Table) -> None:
    """What the peer stored is JSON under its prefix, read by a client that is not the peer's."""
    with redis.Redis.from_url(server.url) as client:
        texts: Any = client.mget([f"{peer.name}:{namespace}:{id}" for id in table])
        stored = [json.loads(text) if text else None for text in texts]
        ttl: Any = client.ttl(f"{peer.name}:{namespace}:{next(iter(table))}")
    _expect(peer.title, "the stored value", namespace, stored, list(table.values()))
    _expect(
        peer.title, "whether a TTL is set", namespace, ttl > 0, namespace == "llm_response_cache"
    )


def _expect(who: str, call: str, namespace: str, answer: object, truth: object) -> None:
    if answer != truth:
        raise DisagreementError(f"{who}: {call} in {namespace} is not what was stored.")
