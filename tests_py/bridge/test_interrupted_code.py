"""A signal's handler may raise in any Python code that the bridge runs: nobody else may suffer."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import closing
from contextvars import Context
from typing import Any

import pytest
from typing_extensions import TypeVarTuple, Unpack

from bridge.conftest import OpenStorage
from nano_graphrag_redis import RedisKVStorage

CACHE = "llm_response_cache"
Args = TypeVarTuple("Args")


class InterruptedLoop(asyncio.SelectorEventLoop):
    """Raises once, where Ctrl-C would, when it is asked to call what `trap` is found in."""

    trap = ""

    def call_soon(
        self,
        callback: Callable[[Unpack[Args]], object],
        *args: Unpack[Args],
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self.trap and self.trap in repr(callback).lower():
            self.trap = ""
            raise KeyboardInterrupt
        return super().call_soon(callback, *args, context=context)


class InterruptedDict(dict[str, Any]):
    """A value whose own code is interrupted."""

    def items(self) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return super().items()


# The gathered calls of a turn wait for one callback: lost, it would be waited for ever.
@pytest.mark.parametrize("trap", ["flush", "wakeup"])
def test_an_interrupted_loop_serves_the_calls_after(storage: RedisKVStorage, trap: str) -> None:
    async def interrupted(loop: InterruptedLoop) -> None:
        under_way = asyncio.ensure_future(storage.get_by_id("a"))
        await asyncio.sleep(0)
        loop.trap = trap
        # Beside another it does not leave at once.
        await storage.get_by_id("a")
        await under_way

    async def after() -> None:
        assert await asyncio.wait_for(storage.get_by_id("a"), 20) == 1
        await asyncio.wait_for(storage.upsert({"a": 2}), 20)

    with closing(InterruptedLoop()) as loop:
        loop.run_until_complete(storage.upsert({"a": 1}))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(interrupted(loop))
        loop.run_until_complete(after())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))


# Taken for a fault of the value, an interrupt would be an error of the storage, or a silent miss.
@pytest.mark.parametrize("namespace", ["full_docs", CACHE])
def test_an_interrupt_in_a_values_own_code_is_an_interrupt(
    open_storage: OpenStorage, namespace: str
) -> None:
    cache = open_storage(namespace).sync
    with pytest.raises(KeyboardInterrupt):
        cache.upsert({"a": InterruptedDict(b=1)})
    assert cache.get_by_id("a") is None
