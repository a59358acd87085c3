"""A model to be limited, and what is counted of the permits for its calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from nano_graphrag_redis import _core

MODEL = "test-model"


class Model:
    """A function as the host calls it, which looks into the cache as the host's own do."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.at_once = self.most_at_once = 0
        self.error: Exception | None = None
        self.seconds = 0.0

    async def complete(self, prompt: str, hashing_kv: Any = None, **_: Any) -> str:
        """Answers, and caches the answer."""
        if hashing_kv is not None:
            cached = await hashing_kv.get_by_id(prompt)
            if cached is not None:
                return str(cached["return"])
        answer = await self.answer(prompt)
        if hashing_kv is not None:
            await hashing_kv.upsert({prompt: {"return": answer, "model": MODEL}})
            await hashing_kv.index_done_callback()
        return answer

    async def answer(self, prompt: str, **_: Any) -> str:
        """Answers, whatever is cached."""
        self.asked.append(time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
        finally:
            self.at_once -= 1
        return f"answer to {prompt}"


def counts() -> dict[str, int]:
    told = _core.metrics()["namespaces"].get("llm_limits", {"counts": {}})["counts"]
    names = ("permits", "local_permits", "pauses")
    return {name: told.get(name, 0) for name in names}


def counted_since(before: dict[str, int]) -> dict[str, int]:
    return {name: number - before[name] for name, number in counts().items()}


async def until(condition: Callable[[], bool]) -> None:
    """Lets others go on until it holds."""
    while not condition():  # noqa: ASYNC110  # what another thread does, too
        await asyncio.sleep(0.001)
