"""A scripted TCP peer, for replies that a real server cannot be made to send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from support.loop_thread import LoopThread
from support.wire import commands

Script = Callable[[list[bytes]], "bytes | None"]
"""The bytes that answer a command; none leave it waiting, None ends the connection."""

HANDSHAKE = {b"HELLO", b"CLIENT", b"AUTH", b"SELECT"}


def ok(_: list[bytes]) -> bytes:
    """The answer to anything."""
    return b"+OK\r\n"


class Peer(LoopThread):
    """Listens on 127.0.0.1:`port`; says +OK to the handshake, and what the script says to the rest.

    Attributes:
        script: How commands are answered; may be changed while it runs.
        hangs_up: Whether new connections are ended at once.
        arrivals: When connections were made, by `time.monotonic`.
        waiting: Connections that are left waiting.
        most_waiting: The most connections at a time that were left waiting; may be set to 0.
    """

    def __init__(self, script: Script = ok) -> None:
        super().__init__("peer")
        self.script = script
        self.hangs_up = False
        self.arrivals: list[float] = []
        self.most_waiting = 0
        self.waiting = 0
        self.port = 0
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The peer's address, for `redis_url`."""
        return f"redis://127.0.0.1:{self.port}"

    async def serve(self) -> None:
        self.port = self.listen(self._answer)

    def stop(self) -> None:
        self.hangs_up = True
        for client in self._clients:
            client.transport.abort()

    async def _answer(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.arrivals.append(time.monotonic())
        self._clients.add(to_client)
        try:
            with suppress(ConnectionError):
                await self._talk(client, to_client)
        finally:
            self._clients.discard(to_client)
            to_client.close()
            with suppress(ConnectionError, asyncio.TimeoutError):
                await asyncio.wait_for(to_client.wait_closed(), 1.0)
            to_client.transport.abort()

    async def _talk(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        received, waits = b"", False
        try:
            while not self.hangs_up and (piece := await client.read(65536)):
                received += piece
                taken = list(commands(received))
                if not received.endswith(b"\r\n") or not taken:
                    continue
                received = b""
                answers = [self._of(words) for words in taken]
                if b"" in answers and not waits:
                    waits = True
                    self.waiting += 1
                    self.most_waiting = max(self.most_waiting, self.waiting)
                to_client.write(b"".join(answer for answer in answers if answer is not None))
                await to_client.drain()
                if None in answers:
                    break
        finally:
            self.waiting -= waits

    def _of(self, words: list[bytes]) -> bytes | None:
        if words[0] in HANDSHAKE:
            return b"+OK\r\n"
        return self.script(words)
