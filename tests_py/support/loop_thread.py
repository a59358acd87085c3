"""An event loop in a thread of its own, for servers that the tests play themselves."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class LoopThread:
    """Runs `serve` in a thread while the context lasts; nothing of it is left afterwards.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    async def serve(self) -> None:
        """Opens what is served; the context is entered when it returns."""

    def stop(self) -> None:
        """Closes listeners and connections; called again while tasks are left."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._serving.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        # What was accepted just before begins only now: again, until nothing is left.
        while True:
            self.stop()
            await asyncio.sleep(0)  # connections are closed by the next turn
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if not tasks:
                return
            await asyncio.wait(tasks, timeout=0.05)
