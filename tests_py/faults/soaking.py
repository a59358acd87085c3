"""A process that uses one storage in every way for as long as it is told, and says what it takes.

Usage: soaking.py URL SECONDS. Prints a JSON object: what was confirmed and what was not, what
contradicts it, and the resident bytes at each look.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import random
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Any

from nano_graphrag_redis import RedisKVStorage
from nano_graphrag_redis.exceptions import StorageUnavailableError
from support.checker import CONFIRMED, Checker

PAGE = 4096
TEXT = "Marley was dead: to begin with. " * 40
EACH = 20
"""Ids of each writer."""


def resident() -> int:
    """Bytes that this process holds, once all that is free was given back."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Soak:
    def __init__(self, url: str, seconds: float) -> None:
        config = {"redis_url": url, "redis_operation_timeout": 3.0, "redis_socket_timeout": 0.5}
        self.storage = RedisKVStorage("full_docs", config)
        self.cache = RedisKVStorage("llm_response_cache", {**config, "redis_near_cache_mb": 1})
        self.until = time.monotonic() + seconds
        self.checker = Checker()

    def over(self) -> bool:
        return time.monotonic() > self.until

    async def write(self, writer: int, chance: random.Random) -> None:
        id = f"{writer}-{chance.randrange(EACH)}"
        if chance.random() < 0.2:
            with self.checker.delete(id) as delete:
                delete.was_there = await self.storage.delete_by_id(id)
            return
        with self.checker.write(id) as write:
            await self.storage.upsert({id: {"n": write.sequence, "content": TEXT}})

    async def read(self, chance: random.Random) -> None:
        """Reads of every kind, some of which are cancelled."""
        ids = [f"{chance.randrange(4)}-{chance.randrange(EACH)}" for _ in range(30)]
        calls = [*map(self.storage.get_by_id, ids), self.storage.get_by_ids(ids)]
        calls += [self.storage.filter_keys(ids), self.cache.get_by_id(ids[0])]
        calls += [self.cache.upsert({ids[0]: TEXT}), self.cache.index_done_callback()]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(chance.uniform(0, 0.002))
        for task in chance.sample(tasks, 5):
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, StorageUnavailableError):
                raise result

    async def on_a_loop(self, writer: int) -> None:
        """A while on a loop, which then ends."""
        chance = random.Random(time.monotonic_ns())
        end = min(self.until, time.monotonic() + 2.0)
        while time.monotonic() < end:
            await asyncio.gather(self.write(writer, chance), self.read(chance))

    def on_loops(self, writer: int) -> None:
        while not self.over():
            asyncio.run(self.on_a_loop(writer))

    def blocking(self, writer: int) -> None:
        chance = random.Random(writer)
        while not self.over():
            id = f"{writer}-{chance.randrange(EACH)}"
            with self.checker.write(id) as write:
                self.storage.sync.upsert({id: {"n": write.sequence, "content": TEXT}})
            with contextlib.suppress(StorageUnavailableError):
                self.storage.sync.get_by_ids([id, "missing"])

    def run(self) -> dict[str, Any]:
        works = [self.on_loops, self.on_loops, self.blocking, self.blocking]
        threads = [threading.Thread(target=work, args=(n,)) for n, work in enumerate(works)]
        for thread in threads:
            thread.start()
        looks = array("d")  # beside what is measured, this grows by little
        while not self.over():
            time.sleep(0.5)
            looks.extend((time.monotonic(), resident()))
        for thread in threads:
            thread.join()
        sys.stdout.write("soaked\n")
        sys.stdout.flush()
        sys.stdin.readline()  # the faults are over
        values = self.storage.sync.get_by_ids(self.checker.ids)
        found = {
            id: value and value["n"] for id, value in zip(self.checker.ids, values, strict=True)
        }
        return {
            "operations": self.checker.count(),
            "confirmed": self.checker.count(CONFIRMED),
            "wrong": self.checker.wrong(found),
            "looks": list(zip(looks[::2], looks[1::2], strict=True)),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Soak(sys.argv[1], float(sys.argv[2])).run()))
