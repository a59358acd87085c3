"""Readers, writers of our own and of others, and tracking connections that are killed, at once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from support.conditions import eventually
from support.servers import RedisServer

from .conftest import PREFIX, OpenNear
from .test_tracking import trackers

pytestmark = pytest.mark.any_server

QUICK: dict[str, Any] = {"redis_breaker_recovery": 0.02}
"""Seconds: a connection that was killed is back soon."""

IDS = [f"id-{n}" for n in range(12)]


def kill(ids: list[str], client: redis.Redis) -> int:
    """Ends connections; how many were still there."""
    return sum(int(client.execute_command("CLIENT", "KILL", "ID", id)) for id in ids)


@dataclass
class Entry:
    """What is known of one id. Versions go up; its lock makes their order that of the server."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    written: int = 0
    acknowledged: int = 0
    """The last version of our own that was acknowledged."""


@pytest.mark.parametrize("killing", [False, True], ids=["calm", "killing"])
def test_no_read_is_older_than_an_acknowledged_write_of_our_own(
    open_near: OpenNear, server: RedisServer, killing: bool
) -> None:
    near, twin = open_near(**QUICK), open_near(**QUICK)
    near.wait_until_tracking()
    entries = {id: Entry() for id in IDS}
    client = server.client()
    writing = threading.Event()
    writing.set()

    def write(seed: int, *, own: bool) -> None:
        chance = random.Random(seed)
        for _ in range(2000):
            id = chance.choice(IDS)
            entry = entries[id]
            with entry.lock:
                version = entry.written + 1
                if own:
                    near.upsert({id: version})
                    entry.acknowledged = version
                else:
                    client.set(PREFIX + id, str(version))
                entry.written = version

    def read(seed: int) -> int:
        chance = random.Random(seed)
        stale = 0
        while writing.is_set():
            storage = chance.choice([near, twin])
            ids = chance.sample(IDS, chance.choice([1, 1, 1, 5]))
            floors = [entries[id].acknowledged for id in ids]
            values = [storage.get_by_id(ids[0])] if len(ids) == 1 else storage.get_by_ids(ids)
            stale += sum((v or 0) < floor for v, floor in zip(values, floors, strict=True))
        return stale

    watcher = server.client()
    kills, before = 0, near.cache["hits"]
    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read, seed) for seed in range(3)]
        writers = [pool.submit(write, seed, own=seed % 2 == 0) for seed in range(4)]
        try:
            hits = near.cache["hits"]
            while killing and not all(writer.done() for writer in writers):
                # Only a cache that has come back, and is used, has something to lose.
                if near.cache["hits"] > hits:
                    hits = near.cache["hits"]
                    kills += kill(trackers(watcher), watcher)
            for writer in writers:
                writer.result()
        finally:
            writing.clear()
        assert sum(reader.result() for reader in readers) == 0
    assert near.cache["hits"] > before
    assert (kills > 3) == killing
    # Once all is told, every copy is the last version.
    near.wait_until_tracking()
    for id in IDS:
        eventually(lambda name=id: near.fill(name) == entries[name].written)
        assert twin.get_by_id(id) == entries[id].written


@pytest.mark.parametrize("killing", [False, True], ids=["calm", "killing"])
def test_changes_of_others_are_seen_in_their_order(
    open_near: OpenNear, server: RedisServer, killing: bool
) -> None:
    """Whoever has seen the second of two changes sees the first, too: both come one way."""
    near, client = open_near(**QUICK), server.client()
    for version in range(120):
        for id in ("first", "second"):
            client.set(PREFIX + id, str(version))
        eventually(lambda version=version: near.fill("first") == version)
        eventually(lambda version=version: near.fill("second") == version)
        with client.pipeline(transaction=True) as together:
            if killing and version % 3 == 0:
                together.execute_command("CLIENT", "KILL", "ID", *trackers(client))
            for id in ("first", "second"):
                together.set(PREFIX + id, str(version + 1))
            together.execute()
        eventually(lambda version=version: near.get_by_id("second") == version + 1)
        assert near.get_by_id("first") == version + 1
