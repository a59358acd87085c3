"""The server with every peer opened on it, filled, and seen to give the same answers."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import redis

from benches.payloads import Payloads
from benches.peers import FILES, OURS, NearPeer, Peer
from benches.server import Server
from benches.workloads import CHUNKS, Stores

NEAR = "near_chunks"
"""The namespace of the chunks that local copies are kept of."""


class DisagreementError(AssertionError):
    """A peer's answer is not what was stored, so its speed means nothing."""


@dataclass(frozen=True)
class Entrant:
    """A peer and its open storages."""

    peer: Peer
    stores: Stores


async def enter(peers: list[Peer], server: Server, payloads: Payloads) -> list[Entrant]:
    """Open every peer on every namespace, store the payloads, and compare the answers.

    Raises:
        DisagreementError: It names the peer, the call and the namespace.
    """
    entrants = []
    for peer in peers:
        stores = Stores(
            {name: await peer.open(server, name) for name in payloads.tables()},
            peer.open_blocking(server, CHUNKS),
            # A namespace of its own: the writes of the other workloads are not to be tracked.
            await peer.open_near(server, NEAR) if isinstance(peer, NearPeer) else None,
        )
        entrants.append(Entrant(peer, stores))
        for namespace, table in payloads.tables().items():
            await _store_and_compare(peer, stores.by_namespace[namespace], namespace, table)
            if peer.name != FILES:
                _compare_bytes(peer, server, namespace, table)
        if stores.near:
            await _store_and_compare(peer, stores.near, NEAR, payloads.text_chunks)
            _compare_bytes(peer, server, NEAR, payloads.text_chunks)
        if stores.blocking:
            for id, value in payloads.text_chunks.items():
                _expect(peer, "blocking get_by_id", CHUNKS, stores.blocking.get_by_id(id), value)
    return entrants


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
        if entrant.stores.near:
            await entrant.stores.near.close()
        if entrant.stores.blocking:
            entrant.stores.blocking.close()


async def _store_and_compare(
    peer: Peer, storage: Any, namespace: str, table: dict[str, Any]
) -> None:
    ids, values = list(table), list(table.values())
    absent = [f"absent-{id}" for id in ids]
    await storage.upsert(table)
    await asyncio.gather(*(storage.upsert({id: table[id]}) for id in ids[:100]))
    await storage.index_done_callback()
    answers = {
        "get_by_ids": (await storage.get_by_ids(ids), values),
        "get_by_ids of missing ids": (await storage.get_by_ids(absent[:9]), [None] * 9),
        "get_by_id": (await asyncio.gather(*map(storage.get_by_id, ids[:64])), values[:64]),
        "get_by_id of a missing id": (await storage.get_by_id(absent[0]), None),
        "filter_keys": (await storage.filter_keys(ids + absent), set(absent)),
    }
    for call, (answer, truth) in answers.items():
        _expect(peer, call, namespace, answer, truth)


def _compare_bytes(peer: Peer, server: Server, namespace: str, table: dict[str, Any]) -> None:
    """What the peer stored is JSON under its prefix, read by a client that is not the peer's."""
    with redis.Redis.from_url(server.url) as client:
        texts: Any = client.mget([f"{peer.name}:{namespace}:{id}" for id in table])
        stored = [json.loads(text) if text else None for text in texts]
        ttl: Any = client.ttl(f"{peer.name}:{namespace}:{next(iter(table))}")
    _expect(peer, "the stored value", namespace, stored, list(table.values()))
    _expect(peer, "whether a TTL is set", namespace, ttl > 0, namespace == "llm_response_cache")


def _expect(peer: Peer, call: str, namespace: str, answer: object, truth: object) -> None:
    if answer != truth:
        raise DisagreementError(f"{peer.title}: {call} in {namespace} is not what was stored.")
