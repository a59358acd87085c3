"""A TCP proxy between a client and a real server, for what a healthy network never does."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from .loop_thread import LoopThread

CHUNK = 65536
WORD = re.compile(rb"\r\n([A-Z]+)\r\n")
"""The name of a command, as it is sent."""


@dataclass
class Record:
    """What passed on one connection.

    Attributes:
        sent: What the client sent.
        delivered: What was handed to the client's end of the connection.
    """

    sent: bytearray = field(default_factory=bytearray)
    delivered: bytearray = field(default_factory=bytearray)


class Proxy(LoopThread):
    """Forwards 127.0.0.1:`port` to a server on the same machine; faults are set while it runs.

    Args:
        server_port: Where the server is.
        room: Bytes that the system takes from a client before the proxy has read them.

    Attributes:
        delay: Longest time in seconds that a piece of a reply is held back, at random.
        latency: Seconds that every piece of a reply is held back.
        cut_after: Pieces of replies that still pass; the next one is thrown away, and its
            connection with it. None: all pass, which it is again after the cut.
        cut_for_good: Whether the cut ends every other connection too, and refuses new ones.
        cut_after_bytes: Bytes of replies that still pass; then as `cut_after`, in the middle of
            whatever it is.
        cut_chance: How likely a piece of a reply is thrown away, and its connection with it.
        one_byte: Whether replies arrive one byte at a time.
        blackhole: Whether replies are swallowed while the connection stays open.
        silent_after: Pieces of replies that still pass before all are swallowed. None: all pass.
        hold: While not empty, what the server sends is held back on each connection that has ever
            sent one of these words: ``{"GET"}``.
        interruption: Bytes of a request, and what is done when all before them has passed and
            they have not; once.
        ends_after: Bytes of requests that still pass, counted over all connections, and what is
            done then, once. Nothing more passes on the connection that sent the last of them.
        hangs_up_at: Bytes of requests, such as ``b"SETNAME"``: a connection on which one of them
            is sent is ended, and nothing of that piece passes.
        records: What passed on each connection made since this was set to an empty list.
    """

    def __init__(self, server_port: int, *, room: int | None = None) -> None:
        super().__init__("proxy")
        self.delay = self.latency = 0.0
        self.cut_after: int | None = None
        self.cut_after_bytes: int | None = None
        self.cut_chance = 0.0
        self.cut_for_good = False
        self._refusing = False
        self.one_byte = False
        self.blackhole = False
        self.silent_after: int | None = None
        self.hold: frozenset[str] = frozenset()
        self.interruption: tuple[bytes, Callable[[], object]] | None = None
        self.ends_after: tuple[int, Callable[[], object]] | None = None
        self.hangs_up_at: tuple[bytes, ...] = ()
        self.records: list[Record] | None = None
        self.port = 0
        self._server_port = server_port
        self._room = room
        self._random = random.Random(7)
        self._clients: set[asyncio.StreamWriter] = set()
        self._dead: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The proxy's address, for `redis_url`."""
        return f"redis://127.0.0.1:{self.port}"

    def allow(self) -> None:
        """Takes new connections again after a cut for good."""
        self._refusing = False

    def deafen(self) -> None:
        """Swallows, from now on, the replies of every connection that is open."""
        self._dead.update(self._clients)

    def half_close(self) -> None:
        """Ends the replies of every connection and goes on reading what the client sends."""

        def write_eof() -> None:
            for writer in self._clients:
                writer.write_eof()

        self.loop.call_soon_threadsafe(write_eof)

    async def serve(self) -> None:
        self.port = self.listen(self._connect, room=self._room)

    def stop(self) -> None:
        for writer in self._clients:
            writer.transport.abort()

    def _cut(self) -> None:
        self.cut_after = self.cut_after_bytes = None
        if self.cut_for_good:
            self._refusing = True
            for writer in self._clients:
                writer.close()  # what was handed over is to be read

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._refusing:
            to_client.transport.abort()
            return
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except ConnectionError:
            to_client.transport.abort()
            return
        self._clients.add(to_client)
        said: set[str] = set()
        record = Record()
        if self.records is not None:
            self.records.append(record)
        ways = [
            asyncio.ensure_future(self._requests(client, to_server, said, record)),
            asyncio.ensure_future(self._replies(server, to_client, said, record)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(to_client)
            self._dead.discard(to_client)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (to_client, to_server):
                writer.transport.abort()

    async def _requests(
        self,
        client: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        said: set[str],
        record: Record,
    ) -> None:
        with suppress(ConnectionError):
            while piece := await client.read(CHUNK):
                if self.records is not None:
                    record.sent += piece
                said.update(word.decode() for word in WORD.findall(piece))
                if any(words in piece for words in self.hangs_up_at):
                    return
                if self.ends_after is not None:
                    left, act = self.ends_after
                    if len(piece) >= left:
                        self.ends_after = None
                        server.write(piece[:left])
                        await server.drain()
                        await asyncio.to_thread(act)
                        return
                    self.ends_after = (left - len(piece), act)
                passing = piece
                if self.interruption and self.interruption[0] in piece:
                    (mark, act), self.interruption = self.interruption, None
                    before, mark, after = piece.partition(mark)
                    server.write(before)
                    await server.drain()
                    await asyncio.to_thread(act)
                    passing = mark + after
                server.write(passing)
                await server.drain()

    async def _replies(
        self,
        server: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        said: set[str],
        record: Record,
    ) -> None:
        with suppress(ConnectionError):
            while piece := await server.read(CHUNK):
                while said & self.hold:  # noqa: ASYNC110 - another thread sets it
                    await asyncio.sleep(0.001)
                if self.delay or self.latency:
                    await asyncio.sleep(self.latency + self._random.uniform(0, self.delay))
                if self.blackhole or client in self._dead or self.silent_after == 0:
                    continue
                if self.silent_after is not None:
                    self.silent_after -= 1
                if client.is_closing():
                    return
                passing = self._passing(piece)
                if self.records is not None:
                    record.delivered += passing
                for part in (bytes([byte]) for byte in passing) if self.one_byte else [passing]:
                    client.write(part)
                    await client.drain()
                if len(passing) < len(piece):
                    # Ended, not reset: what was handed over is to be read.
                    client.close()
                    await client.wait_closed()
                    self._cut()
                    return

    def _passing(self, piece: bytes) -> bytes:
        """How much of a reply passes; a shorter piece is the connection's last."""
        if self.cut_after == 0 or self._random.random() < self.cut_chance:
            return b""
        if self.cut_after is not None:
            self.cut_after -= 1
        if self.cut_after_bytes is not None:
            passing = piece[: self.cut_after_bytes]
            self.cut_after_bytes -= len(passing)
            return passing
        return piece
