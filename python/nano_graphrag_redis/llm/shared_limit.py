"""Permits of one limit that all workers share: ``src/store/llm_limits.lua`` decides, this waits.

A permit is a reservation: the server is asked once, and says when the call's turn is. Whoever has
waited asks once more whether a pause has come meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import random
import time
import uuid
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple

from nano_graphrag_redis._core import BlockingKvStore, KvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import LLM_LIMITS
from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.storage_lifetime import Backend

from . import slot_renewal
from .fallback_limit import POLL, LocalLimit, Rates, SlotCount

logger = logging.getLogger("nano_graphrag_redis")

LONGEST_WAIT: Final = 600.0
"""Seconds that a call waits for its turn in the shared limit."""

_NO_SLOT: Final = 0
_GIVEN: Final = 1
_NO_SERVER: Final = -1
"""Of our own: the script says nothing below 0."""
_SHORT: Final = 0.05
"""Seconds of a wait after which nobody is asked whether a pause has come."""

Counted = Literal["permits", "local_permits", "permit_wait_milliseconds", "pauses"]


class SharedLimit:
    """One limit, by the name of its model.

    Args:
        settings: As ``limit_llm`` takes them.
        model: The name.
        rates: What is permitted to all workers together.
    """

    def __init__(
        self, settings: Mapping[str, Any] | RedisConfig | None, model: str, rates: Rates
    ) -> None:
        if not isinstance(settings, RedisConfig):
            settings = RedisConfig.from_global_config(settings or {})
        config = settings.model_copy(
            # Failures are dealt with here, and nothing of a limit belongs into the host's files.
            update={"redis_outage_policy": {LLM_LIMITS: "raise"}, "redis_dual_write": False}
        )
        self.rates = rates
        self._backend = Backend(LLM_LIMITS, config)
        self._model = model
        # A name of any length and characters, in a key that can be read.
        self._name = hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self._keeper = slot_renewal.SlotKeeper(self._blocking, self._name)
        self._local = LocalLimit(rates)
        self._workers = 1
        self._away = False
        self._failures = 0
        self._running = SlotCount()
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )
        self._worker = _worker

    def _begin_anew_in_child(self) -> None:
        """A child makes none of its parent's calls."""
        self._worker = _worker
        self._running = SlotCount()
        self._local = LocalLimit(self.rates)

    async def permit(self, permit: Permit, tokens: int) -> None:
        """Returns when the call may be made. Raises nothing of ours."""
        if self._worker != _worker:
            self._begin_anew_in_child()
        if self.rates.tokens:
            # One call does not wait for longer than it takes until so many are free; it is settled
            # by what it took.
            tokens = min(tokens, math.ceil(self.rates.tokens))
        began = time.monotonic()
        try:
            shared = await self._shared_permit(permit, tokens)
        except StorageError as error:
            self._failures += 1
            self._tell(error)
            shared = False
        if shared:
            permit.count(self._running)
        else:
            permit.end()
            await self._local.permit(tokens, self._workers, self._running)
            permit.counted = self._running
        self._count("permits" if shared else "local_permits", 1)
        waited = round(1000 * (time.monotonic() - began))
        if waited:
            self._count("permit_wait_milliseconds", waited)

    async def _shared_permit(self, permit: Permit, tokens: int) -> bool:
        """True when the call's turn has come; False where that is further off than it may be."""
        start = 0
        while True:
            if start:
                # Not in the queue for slots: whoever is ahead there may wait for this one's.
                turn = await self._ask(permit, tokens, start)
                if turn.status == _NO_SLOT:  # it was lost to others, while this process stood still
                    start = 0
                    continue
            else:
                turn = await self._turn(permit, tokens)
            if turn.status != _GIVEN:
                return False
            if turn.wait > 0:
                await asyncio.sleep(turn.wait)
            if turn.wait < _SHORT:
                return True
            start = turn.start

    async def _turn(self, permit: Permit, tokens: int) -> Turn:
        """When the call's turn is, once there is a slot for it."""
        if not self.rates.concurrent:
            return await self._ask(permit, tokens, 0)
        deadline = time.monotonic() + LONGEST_WAIT
        failures = self._failures
        # One asks, the others wait, in the order of their arrival. Each leaves at its own deadline,
        # which is not before that of whoever is ahead.
        loop = asyncio.get_running_loop()
        async with self._queues.setdefault(loop, asyncio.Lock()):
            if self._failures > failures:  # of whoever was ahead, who has waited for the server
                return Turn(_NO_SERVER, 0, 0)
            while True:
                turn = await self._ask(permit, tokens, 0)
                if turn.status != _NO_SLOT or time.monotonic() > deadline:
                    return turn
                await asyncio.sleep(random.uniform(POLL / 2, POLL))  # noqa: S311  # no secret

    async def _ask(self, permit: Permit, tokens: int, before: int) -> Turn:
        rates = self.rates
        words = [
            "reserve",
            f"{rates.interval(rates.requests):.6f}",
            f"{rates.burst(rates.requests):.6f}",
            f"{rates.interval(rates.tokens):.6f}",
            f"{rates.burst(rates.tokens):.6f}",
            str(tokens),
            str(rates.concurrent or 0),
            permit.slot,
            f"{slot_renewal.SLOT_TTL * 1e6:.0f}",
            _worker,
            f"{LONGEST_WAIT * 1e6:.0f}",
            str(before),
        ]
        store = await self._store()
        status, wait, start, self._workers = await store.limit(self._name, words)
        if self._away:
            self._away = False
            logger.info("the limit of %s is shared again", visible(self._model))
        if status == _GIVEN:
            permit.tokens += 0 if before else tokens
            if rates.concurrent:
                self._keeper.hold(permit.slot)
        return Turn(status, wait / 1e6, start)

    async def pause(self, seconds: float) -> None:
        """No worker makes a call for so long."""
        seconds = min(seconds, LONGEST_WAIT)
        self._local.pause(seconds)
        self._count("pauses", 1)
        try:
            await (await self._store()).limit(self._name, ["pause", f"{seconds * 1e6:.0f}"])
        except StorageError as error:
            self._tell(error)

    def settle(self, permit: Permit, taken: int) -> None:
        """The call is over, and took so many tokens."""
        # What a local permit was given for was not reserved from what is shared.
        excess = permit.tokens - taken if permit.tokens else 0
        microseconds = excess * self.rates.interval(self.rates.tokens)
        if self.rates.concurrent or microseconds:
            self._keeper.release(permit.slot, microseconds)
        permit.end()

    async def _store(self) -> KvStore:
        if not self._backend.ready:
            await self._backend.join_aside()
        return self._backend.store

    def _blocking(self) -> BlockingKvStore:
        return self._backend.store.blocking

    def _count(self, what: Counted, number: int) -> None:
        with suppress(StorageError):
            self._backend.store.count(what, number)

    def _tell(self, error: StorageError) -> None:
        if not self._away:
            self._away = True
            logger.warning(
                "the limit of %s is not shared for now, each of %d workers keeps to its part: %s",
                visible(self._model),
                self._workers,
                visible(error),
            )


class Turn(NamedTuple):
    """What the script said: whether there is a turn, in how many seconds, and when by its clock."""

    status: int
    wait: float
    start: int


class Permit:
    """What a call holds while it is made.

    Attributes:
        slot: The name of its slot.
        tokens: How many were reserved from what all share.
        counted: Where it is counted among the calls of this process.
    """

    def __init__(self) -> None:
        self.slot = uuid.uuid4().hex
        self.tokens = 0
        self.counted: SlotCount | None = None

    def count(self, running: SlotCount) -> None:
        """The call is made, with a permit that all share."""
        if self.counted is None and running.take(None):
            self.counted = running

    def end(self) -> None:
        """The call is over, or has to ask again."""
        if self.counted is not None:
            self.counted.give_back()
            self.counted = None


_worker = uuid.uuid4().hex
"""The name of this process among those that share a limit."""


def _rename_child() -> None:
    global _worker
    _worker = uuid.uuid4().hex


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rename_child)
