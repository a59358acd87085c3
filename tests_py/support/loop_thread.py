"""An event loop in a thread of its own, for servers that the tests play themselves."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress

from .guard import Guard

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
"""Serves a connection, which ends with it."""


class LoopThread(Guard):
    """Runs `serve` in a thread while the context lasts; nothing of it is left afterwards.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._listeners: list[socket.socket] = []

    async def serve(self) -> None:
        """Opens what is served; the context is entered when it returns."""

    def stop(self) -> None:
        """Ends connections; called again while tasks are left."""

    def listen(self, serve: Serve, *, room: int | None = None) -> int:
        """Serves what connects to 127.0.0.1 at the port that is returned, while the context lasts.

        Not `asyncio.start_server`, which forgets a connection that it accepted just before it was
        closed, and its socket with it.

        Args:
            serve: Called for each connection, in a task of its own.
            room: Bytes that the system takes from a client before `serve` has read them.
        """
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        if room is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        listener.setblocking(False)
        self.loop.add_reader(listener, self._accept, listener, serve)
        self._listeners.append(listener)
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket, serve: Serve) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            # What is written is at the client at once, and stays readable there after a reset.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            async def serve_connection() -> None:
                await serve(*await asyncio.open_connection(sock=connection))

            # Also one whose task is cancelled before it begins.
            task = self.loop.create_task(serve_connection())
            task.add_done_callback(lambda _: connection.close())

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            self.loop.remove_reader(listener)
            listener.close()

    def start(self) -> None:
        """Returns when it serves."""
        self._thread.start()
        self._serving.wait()

    def close(self) -> None:
        """Ends what it serves, and the thread."""
        self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self.loop.run_until_complete(self._serve_until_stopped())
        finally:
            self.loop.close()

    async def _serve_until_stopped(self) -> None:
        await self.serve()
        self._serving.set()
        await self._stopping.wait()
        self._close_listeners()
        # What was accepted just before begins only now: again, until nothing is left.
        while True:
            self.stop()
            await asyncio.sleep(0)  # connections are closed by the next turn
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if not tasks:
                return
            await asyncio.wait(tasks, timeout=0.05)
