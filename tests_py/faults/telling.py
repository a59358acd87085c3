"""A process that writes, reads and deletes ids, and notes what it is told before it goes on.

Usage: telling.py SETTINGS NUMBER SEED. SETTINGS is JSON; with `redis_durability`, each operation is
followed by a barrier, that of a read by a write beside it before. Each line of stdin has the ids to
go on with. Notes are lines of stdout, as `support.history.noted` reads them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from typing import Any

from nano_graphrag_redis import RedisKVStorage
from nano_graphrag_redis.exceptions import (
    CircuitOpenError,
    StorageError,
    StorageUnavailableError,
)

KINDS = {"write": 4, "read": 6, "delete": 1}


class Teller:
    def __init__(self, settings: dict[str, Any], number: int, seed: int) -> None:
        # One of the two has the near cache, where there is one: what either writes, both see.
        self.storage = RedisKVStorage("full_docs", settings)
        plain = {name: value for name, value in settings.items() if "near_cache" not in name}
        self.storages = [self.storage, self.storage, RedisKVStorage("full_docs", plain)]
        self.has_barrier = "redis_durability" in settings
        self.chance = random.Random(seed)
        self.next = number * 1_000_000
        self.own = number
        self.ids: list[str] = []
        self.over = False

    def obey(self) -> None:
        for line in sys.stdin:
            self.ids = line.split()
        self.over = True

    def note(self, number: int, **what: Any) -> None:
        # At once: who is killed has noted what it was told.
        os.write(1, json.dumps({"number": number, **what}).encode() + b"\n")

    def begin(self, kind: str, ids: list[str]) -> dict[str, int]:
        """Notes that a call begins: the number of its operation on each id."""
        numbers = {}
        for id in ids:
            self.next += 1
            numbers[id] = self.next
            what = {"value": self.next} if kind == "write" else {}
            self.note(self.next, kind=kind, id=id, called=time.monotonic_ns(), **what)
        return numbers

    async def call(self, kind: str, storage: RedisKVStorage, numbers: dict[str, int]) -> list[Any]:
        ids = list(numbers)
        if kind == "write":
            await storage.upsert(numbers)
        elif kind == "delete":
            return [await storage.delete_by_id(ids[0])]
        elif len(ids) == 1:
            return [await storage.get_by_id(ids[0])]
        else:
            return list(await storage.get_by_ids(ids))
        return []

    async def operate(self) -> None:
        kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
        many = kind != "delete" and self.chance.random() < 0.2
        ids = self.chance.sample(self.ids, 3 if many else 1)
        storage = self.chance.choice(self.storages)
        numbers = self.begin(kind, ids)
        call = asyncio.ensure_future(self.call(kind, storage, numbers))
        if self.chance.random() < 0.05:
            await asyncio.sleep(self.chance.uniform(0, 0.002))
            call.cancel()
        values: list[Any] = []
        unknown: dict[str, str] = {}
        try:
            values = await call
        except asyncio.CancelledError:
            unknown = dict.fromkeys(ids, "cancelled")
        except StorageUnavailableError as error:
            # Of several ids, some may have been sent to another server.
            refused = isinstance(error, CircuitOpenError) and kind != "read" and not many
            unconfirmed = ids if self.has_barrier else error.unconfirmed_ids or ids
            unknown = dict.fromkeys(unconfirmed, "refused" if refused else "unknown")
        if self.has_barrier and kind != "read" and not unknown:
            try:
                await storage.index_done_callback()
            except StorageError:
                unknown = dict.fromkeys(ids, "unknown")
        now = time.monotonic_ns()
        answers = dict(zip(ids, values, strict=False))
        for id, number in numbers.items():
            told = {"value": answers[id]} if id in answers and id not in unknown else {}
            self.note(number, ended=now, outcome=unknown.get(id, "ok"), **told)
        if unknown:
            # A server that is away leaves not too much that is unknown.
            await asyncio.sleep(0.2 if self.has_barrier else 0.02)
        elif self.has_barrier and kind == "read":
            await self.prove(numbers)

    async def prove(self, numbers: dict[str, int]) -> None:
        """Writes beside what was read, on the same server, and waits until that has arrived."""
        try:
            await self.storage.upsert({f"{id}-beside-{self.own}": 0 for id in numbers})
            await self.storage.index_done_callback()
        except StorageError:
            return
        for number in numbers.values():
            self.note(number, proven=time.monotonic_ns())

    async def run(self) -> None:
        threading.Thread(target=self.obey, daemon=True).start()
        while not self.over:
            if self.ids:
                await self.operate()
            await asyncio.sleep(self.chance.uniform(0, 0.004))


if __name__ == "__main__":
    asyncio.run(Teller(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).run())
