"""Readers, writers of our own and of others, and tracking connections that are killed, at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import redis

from support.conditions import eventually
from support.servers import RedisServer

from .conftest import PREFIX, Near, OpenNear
from .test_tracking import trackers

IDS = [f"id-{n}" for n in range(12)]


@contextmanager
def repeated(action: Callable[[], object]) -> Iterator[None]:
    """Repeats an action in a thread of its own."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            action()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            stop.set()
            running.result()


def kill_trackers(client: redis.Redis) -> None:
    """Ends each tracking connection of this process."""
    for tracker in trackers(client):
        client.execute_command("CLIENT", "KILL", "ID", tracker)


@dataclass
class Entry:
    """What is known of one id. Versions go up; its lock makes their order that of the server."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    written: int = 0
    acknowledged: int = 0
    """The last version of our own that was acknowledged."""


@pytest.mark.parametrize("killing", [False, True], ids=["calm", "killing"])
def test_no_read_is_older_than_an_acknowledged_write_of_our_own(
    near: Near, open_near: OpenNear, server: RedisServer, killing: bool
) -> None:
    near.wait_until_tracking()
    entries = {id: Entry() for id in IDS}
    twin = open_near()
    client = server.client()
    writing = threading.Event()
    writing.set()

    def write(seed: int, *, own: bool) -> None:
        chance = random.Random(seed)
        for _ in range(600):
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
    hits = near.cache["hits"]
    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read, seed) for seed in range(3)]
        writers = [pool.submit(write, seed, own=seed % 2 == 0) for seed in range(4)]
        try:
            if killing:
                while not all(writer.done() for writer in writers):
                    kill_trackers(watcher)
            for writer in writers:
                writer.result()
        finally:
            writing.clear()
        assert sum(reader.result() for reader in readers) == 0
    if not killing:
        assert near.cache["hits"] > hits
    # Once all is told, every copy is the last version.
    near.wait_until_tracking()
    for id in IDS:
        eventually(lambda id=id: near.fill(id) == entries[id].written)
        assert twin.get_by_id(id) == entries[id].written


@pytest.mark.parametrize("killing", [False, True], ids=["calm", "killing"])
def test_changes_of_others_are_seen_in_their_order(
    near: Near, server: RedisServer, killing: bool
) -> None:
    """Whoever has seen the second of two changes sees the first, too: both come one way."""
    client, watcher = server.client(), server.client()
    for id in ("first", "second"):
        client.set(PREFIX + id, "0")

    def rounds() -> None:
        for version in range(1, 201):
            if not killing:
                near.fill("first")
                near.fill("second")
            near.get_by_ids(["first", "second"])
            client.set(PREFIX + "first", str(version))
            client.set(PREFIX + "second", str(version))
            eventually(lambda version=version: near.get_by_id("second") == version)
            assert near.get_by_id("first") == version

    if killing:
        with repeated(lambda: kill_trackers(watcher)):
            rounds()
    else:
        rounds()
    assert near.cache["hits"] > 0 or killing
