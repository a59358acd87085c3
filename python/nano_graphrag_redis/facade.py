"""The little that the factory host's backup and health route want of a Redis client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core import KvStore

if TYPE_CHECKING:
    from .storage import RedisKVStorage


class RedisClientFacade:
    """A read-only stand-in for the client that the host reaches for as ``storage._redis_client``.

    Args:
        storage: The storage whose connections it uses.
    """

    def __init__(self, storage: RedisKVStorage) -> None:
        self._storage = storage

    async def _core(self) -> KvStore:
        await self._storage._ensure_initialized()
        return self._storage._foundation.store

    async def ping(self) -> bool:
        """True.

        Raises:
            StorageError: The server does not answer.
        """
        return await (await self._core()).ping()

    async def get(self, key: str | bytes) -> bytes | None:
        """The JSON bytes under a key of any namespace; None if it is absent."""
        return await (await self._core()).get_key(_bytes(key))

    async def scan(
        self,
        cursor: int = 0,
        match: str | bytes | None = None,
        count: int | None = None,
    ) -> tuple[int, list[bytes]]:
        """One page of keys: https://redis.io/docs/latest/commands/scan/.

        Args:
            cursor: 0 to begin, then what the page before gave.
            match: A glob pattern; None for every key.
            count: How many keys the server should look at; its own default is 10.

        Returns:
            The next cursor, 0 after the last page, and the keys.
        """
        pattern = b"*" if match is None else _bytes(match)
        return await (await self._core()).scan(int(cursor), pattern, count or 10)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
