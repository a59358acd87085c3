"""The little that the factory host's backup and health route want of a Redis client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ._core import KvStore
from .config.notices import warn_once
from .visible import visible


class RedisClientFacade:
    """A read-only stand-in for the client that the host reaches for as ``storage._redis_client``.

    Args:
        store: The store whose connections it uses.
        ready: Awaited before each call: joins an embedded server.
    """

    def __init__(self, store: KvStore, ready: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._ready = ready

    async def ping(self) -> bool:
        """True.

        Raises:
            StorageError: The server does not answer.
        """
        await self._ready()
        return await self._store.ping()

    async def get(self, key: str | bytes) -> bytes | None:
        """The JSON bytes under a key of any namespace; None if it is absent."""
        await self._ready()
        return await self._store.get_key(_bytes(key))

    async def scan(
        self,
        cursor: int = 0,
        match: str | bytes | None = None,
        count: int | None = None,
    ) -> tuple[int, list[bytes]]:
        """One page of keys: https://redis.io/docs/latest/commands/scan/.

        Keys that are no UTF-8 are no storage's; they are left out, and warned about once: the
        host's backup decodes all it is given.

        Args:
            cursor: 0 to begin, then what the page before gave.
            match: A glob pattern; None for every key.
            count: How many keys the server should look at; its own default is 10.

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
