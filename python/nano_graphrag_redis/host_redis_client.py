"""The part of a Redis client that the factory host's backup and health route use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nano_graphrag_redis.config.warn_once import warn_once

from ._core import KvStore
from .printable import visible


class RedisClientFacade:
    """A read-only stand-in for the client that the host accesses as ``storage._redis_client``.

    Args:
        store: The store whose connections it uses.
        ready: Awaited before each call: joins an embedded server.
    """

    def __init__(self, store: KvStore, ready: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._ready = ready

    async def ping(self) -> bool:
        """Returns True.

        Raises:
            StorageError: The server does not answer.
        """
        await self._ready()
        return await self._store.ping()

    async def get(self, key: str | bytes) -> bytes | None:
        """Returns the JSON bytes under a key of any namespace; None if it is missing."""
        await self._ready()
        return await self._store.get_key(_bytes(key))

    async def scan(
        self,
        cursor: int = 0,
        match: str | bytes | None = None,
        count: int | None = None,
    ) -> tuple[int, list[bytes]]:
        """One page of keys: https://redis.io/docs/latest/commands/scan/.

        Keys that are not UTF-8 do not belong to a storage. They are left out, with one warning,
        because the host's backup decodes every key it gets.

        Args:
            cursor: 0 to start, then the cursor of the previous page.
            match: A glob pattern; None for every key.
            count: How many keys the server should visit; its default is 10.

        Returns:
            The next cursor, 0 after the last page, and the keys.
        """
        pattern = b"*" if match is None else _bytes(match)
        await self._ready()
        next, keys = await self._store.scan(int(cursor), pattern, count or 10)
        ours = [key for key in keys if _is_text(key)]
        if len(ours) < len(keys):
            warn_once(
                "keys that are no UTF-8, which another program has written, were left out of a "
                f"scan of {visible(pattern)}"
            )
        return next, ours


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
