"""The bus of a cluster behind a proxy: who does not hear whom is decided while it runs.

Servers meet over the ports of the proxy and announce them. The sender of each connection stands in
the header of its first message, so that a partition can be between any servers, in both directions.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from .loop_thread import LoopThread

NAME = slice(40, 80)
"""Where a message of the bus has the name of its sender."""
CHUNK = 65536


class Bus(LoopThread):
    """Forwards the connections between the servers of a cluster, unless they are cut.

    Example:
        with Bus() as bus:
            port = bus.behind(server_bus_port)
            bus.cut = {port}  # the server there hears nobody, and nobody hears it
    """

    def __init__(self) -> None:
        super().__init__("bus")
        self._names: dict[bytes, int] = {}
        self._cut: frozenset[int] = frozenset()
        self._links: dict[asyncio.Task[None], tuple[int, int | None]] = {}

    def behind(self, bus_port: int) -> int:
        """A port that leads to this one."""
        listening = asyncio.run_coroutine_threadsafe(self._open(bus_port), self.loop)
        return listening.result()

    def knows(self, name: bytes, port: int) -> None:
        """The server of this name is the one behind this port."""
        self._names[name] = port

    def isolate(self, *ports: int) -> None:
        """Cuts the servers behind these ports off from all others; none heals everything."""

        def isolate() -> None:
            self._cut = frozenset(ports)
            for link, ends in self._links.items():
                if self._is_cut(*ends):
                    link.cancel()

        self.loop.call_soon_threadsafe(isolate)

    def _is_cut(self, target: int, source: int | None) -> bool:
        return (target in self._cut) != (source in self._cut)

    async def _open(self, bus_port: int) -> int:
        port = 0

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = asyncio.current_task()
            assert link is not None
            try:
                with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    head = await reader.readexactly(NAME.stop)
                    source = self._names.get(head[NAME])
                    if self._is_cut(port, source):
                        return
                    self._links[link] = (port, source)
                    await self._forward(bus_port, head, reader, writer)
            finally:
                self._links.pop(link, None)
                writer.transport.abort()

        port = self.listen(connect)
        return port

    @staticmethod
    async def _forward(
        bus_port: int, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", bus_port)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while piece := await source.read(CHUNK):
                target.write(piece)
                await target.drain()

        to.write(head)
        ways = [asyncio.ensure_future(pump(reader, to)), asyncio.ensure_future(pump(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to.transport.abort()

    def stop(self) -> None:
        for link in asyncio.all_tasks() - {asyncio.current_task()}:
            link.cancel()
