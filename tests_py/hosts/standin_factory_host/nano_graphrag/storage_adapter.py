"""The API's adapter, which takes storages of both kinds: a method that is no coroutine function
is run in a thread."""

from __future__ import annotations

import asyncio
from typing import Any


class StorageAdapter:
    def __init__(self, backend: Any) -> None:
        self.backend = backend

    async def _call(self, name: str, *arguments: Any) -> Any:
        method = getattr(self.backend, name)
        if asyncio.iscoroutinefunction(method):
            return await method(*arguments)
        return await asyncio.to_thread(method, *arguments)

    async def get_by_id(self, id: str) -> Any:
        return await self._call("get_by_id", id)

    async def delete_by_id(self, id: str) -> bool:
        return bool(await self._call("delete_by_id", id))

    async def upsert(self, data: dict[str, Any]) -> None:
        await self._call("upsert", data)

    async def check_health(self) -> bool:
        if hasattr(self.backend, "check_health"):
            return bool(await self._call("check_health"))
        return self.backend is not None
