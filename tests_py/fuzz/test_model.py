"""Operations of several loops and threads at once, against a dict."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import uvloop
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from nano_graphrag_redis import RedisKVStorage
from support.servers import RedisServer
from values.documents import ids, shallow_documents
from values.exact import difference

from .conftest import seed, tried

ABSENT = object()
Operation = tuple[str, str, Any]
"""What is done, to which id, and what is written."""

names = st.sampled_from(["a", "b", "", "*", "a:b", "é", "{a}"]) | ids
callers = st.integers(0, 3)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"redis_registry": True},
    {"redis_near_cache_mb": 4},
    {"redis_compression": "zstd", "redis_compression_min_bytes": 0},
    {"redis_max_connections": 1, "redis_compression": "lz4"},
]


def as_stored(value: Any) -> Any:
    """What comes back of a value."""
    return json.loads(json.dumps(value))


class CallingLoop:
    """An event loop in a thread of its own, which calls."""

    def __init__(self, make: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = make()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(call, self.loop)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Concurrent(RuleBasedStateMachine):
    """Two loops and two threads share one storage. Of each id there is one writer at a time."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Any] = {}
        self.loops = [CallingLoop(asyncio.new_event_loop), CallingLoop(uvloop.new_event_loop)]
        self.threads = ThreadPoolExecutor(2)
        with self.server.client() as client:
            client.flushall()

    @initialize(options=st.sampled_from(OPTIONS))
    def open(self, options: dict[str, Any]) -> None:
        self.options = {"redis_url": self.server.url, **options}
        self.storage = RedisKVStorage("full_docs", self.options)

    def teardown(self) -> None:
        self.storage.sync.close()
        for loop in self.loops:
            loop.close()
        self.threads.shutdown()

    def begin(self, caller: int, operation: Operation) -> Future[Any]:
        """Has a caller, a loop or a thread, begin an operation."""
        kind, id, value = operation
        if caller < 2:
            return self.loops[caller].run(getattr(self, f"_{kind}")(self.storage, id, value))
        call = getattr(self, f"_{kind}")(_Blocking(self.storage.sync), id, value)
        return self.threads.submit(_finish, call)

    @staticmethod
    async def _write(storage: Any, id: str, value: Any) -> Any:
        return await storage.upsert({id: value})

    @staticmethod
    async def _read(storage: Any, id: str, _: Any) -> Any:
        return await storage.get_by_id(id)

    @staticmethod
    async def _read_many(storage: Any, id: str, _: Any) -> Any:
        return (await storage.get_by_ids([id, "no such id", id]))[::2]

    @staticmethod
    async def _miss(storage: Any, id: str, _: Any) -> Any:
        return await storage.filter_keys([id])

    @staticmethod
    async def _delete(storage: Any, id: str, _: Any) -> Any:
        return await storage.delete_by_id(id)

    @rule(
        writes=st.dictionaries(
            names, st.tuples(callers, shallow_documents | st.just(ABSENT)), max_size=6
        ),
        reads=st.lists(
            st.tuples(callers, st.sampled_from(["read", "read_many", "miss"]), names), max_size=8
        ),
    )
    def together(
        self, writes: dict[str, tuple[int, Any]], reads: list[tuple[int, str, str]]
    ) -> None:
        """All of them at once: a reader sees an id as it was before, or as it is after."""
        begun: list[tuple[Operation, Future[Any]]] = []
        for id, (caller, value) in writes.items():
            operation = ("delete", id, None) if value is ABSENT else ("write", id, value)
            begun.append((operation, self.begin(caller, operation)))
        for caller, kind, id in reads:
            operation = (kind, id, None)
            begun.append((operation, self.begin(caller, operation)))
        before = dict(self.model)
        for (kind, id, value), _ in begun:
            if kind == "write":
                self.model[id] = as_stored(value)
            elif kind == "delete":
                self.model.pop(id, None)
        for (kind, id, _), outcome in begun:
            possible = [state.get(id, ABSENT) for state in (before, self.model)]
            self.check(kind, id, outcome.result(timeout=30), possible)

    def check(self, kind: str, id: str, found: Any, possible: list[Any]) -> None:
        if kind == "delete":
            assert found == (possible[0] is not ABSENT)
        elif kind == "miss":
            assert found in [({id} if state is ABSENT else set()) for state in possible]
        elif kind in {"read", "read_many"}:
            for each in found if kind == "read_many" else [found]:
                assert any(is_same(each, state) for state in possible), (id, each, possible)

    @rule(
        caller=callers,
        batch=st.dictionaries(names, shallow_documents, max_size=8),
        deleted=st.sets(names, max_size=4),
    )
    def one_after_another(self, caller: int, batch: dict[str, Any], deleted: set[str]) -> None:
        """A batch, and then deletes: what a caller has awaited the next one sees."""

        async def both(storage: Any) -> int:
            await storage.upsert(batch)
            return int(await storage.delete_by_ids(list(deleted)))

        self.model.update({id: as_stored(value) for id, value in batch.items()})
        there = deleted & set(self.model)
        for id in deleted:
            self.model.pop(id, None)
        if caller < 2:
            count = self.loops[caller].run(both(self.storage)).result(timeout=30)
        else:
            count = self.threads.submit(_finish, both(_Blocking(self.storage.sync))).result(30)
        assert count == len(there)

    @rule()
    def reopen(self) -> None:
        self.storage.sync.close()
        self.storage = RedisKVStorage("full_docs", self.options)

    @rule(caller=st.integers(0, 1))
    def drop(self, caller: int) -> None:
        self.loops[caller].run(self.storage.drop()).result(timeout=30)
        self.model.clear()

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "storage"):
            return
        found = self.storage.sync.all_keys()
        assert sorted(found) == sorted(self.model)
        values = self.storage.sync.get_by_ids(found)
        for id, value in zip(found, values, strict=True):
            assert is_same(value, self.model[id]), id


class _Blocking:
    """A blocking storage whose calls can be awaited, so that operations are written once."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._storage, name)

        async def at_once(*arguments: Any) -> Any:
            return call(*arguments)

        return at_once


def _finish(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of what never waits for a loop."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def is_same(found: Any, state: Any) -> bool:
    if state is ABSENT:
        return found is None
    return difference(found, state) is None


# Integers may have thousands of digits; a step of the machine is shown all the same.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_operations_of_loops_and_threads_at_once_are_those_on_a_dict(
    server: RedisServer,
) -> None:
    machine = type("Machine", (Concurrent,), {"server": server})
    seed(machine)
    run_state_machine_as_test(machine, settings=tried(25))
