"""Slots of a concurrency limit: a thread renews those of this process, and gives them back.

Not the event loops: one that computes for a minute, as the host's does when it clusters a graph,
would lose its slots to others, and a call that was cancelled must not wait to be accounted for.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.process_exit import at_exit
from nano_graphrag_redis.threads import started

SLOT_TTL: Final = 15.0
"""Seconds after which the slot of a process that was killed is free again."""

RENEW_EVERY: Final = SLOT_TTL / 3

LAST_RELEASES: Final = 1.0
"""Seconds that an ending process waits until what it gives back has arrived."""

IDLE: Final = 1.0
"""Seconds without a slot after which the thread ends; another is started when it is needed."""

Holding = tuple[Callable[[], BlockingKvStore], str]
"""A limit: the store that asks for it, and its name."""


class SlotKeeper:
    """The slots that this process holds, of all limits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[Holding, set[str]] = {}
        self._releases: deque[tuple[Holding, str, float]] = deque()
        self._due = 0.0
        self._asking = False
        self._thread: threading.Thread | None = None

    def hold(self, holding: Holding, slot: str) -> None:
        """Renews a slot from now on."""
        with self._changed:
            if not self._held:
                self._due = time.monotonic() + RENEW_EVERY
                self._changed.notify()
            self._held.setdefault(holding, set()).add(slot)
            self._start()

    def release(self, holding: Holding, slot: str, excess: float) -> None:
        """Gives a slot back, if it is held, and tokens that were reserved in excess.

        Args:
            holding: The limit.
            slot: The slot's name.
            excess: Microseconds of the tokens; below 0 if more were taken than reserved.
        """
        with self._changed:
            slots = self._held.get(holding, set())
            slots.discard(slot)
            if not slots:
                self._held.pop(holding, None)
            self._releases.append((holding, slot, excess))
            self._start()
            self._changed.notify()

    def drain(self) -> None:
        """Waits until everything was given back, for at most ``LAST_RELEASES``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._releases and not self._asking, LAST_RELEASES)

    def _start(self) -> None:
        if self._thread is None:
            # Without one a slot expires where nobody renews it; the next call tries again.
            self._thread = started(self._go_on, "nano-graphrag-redis-limits")

    def _go_on(self) -> None:
        while True:
            with self._changed:
                while not self._releases and not self._is_due():
                    if self._held:
                        self._changed.wait(self._due - time.monotonic())
                    elif not self._changed.wait(IDLE):
                        self._thread = None
                        return
                releases = list(self._releases)
                self._releases.clear()
                renewed = []
                if self._is_due():
                    renewed = [(holding, list(slots)) for holding, slots in self._held.items()]
                    self._due = time.monotonic() + RENEW_EVERY
                self._asking = True
            for holding, slot, excess in releases:
                _ask(holding, "release", slot, f"{excess:.0f}")
            for holding, slots in renewed:
                _ask(holding, "renew", f"{SLOT_TTL * 1e6:.0f}", *slots)
            with self._changed:
                self._asking = False
                self._changed.notify_all()

    def _is_due(self) -> bool:
        return bool(self._held) and time.monotonic() >= self._due


def _ask(holding: Holding, *words: str) -> None:
    store, name = holding
    # What cannot be given back expires; what cannot be renewed is lost to others for a while.
    with suppress(StorageError):
        store().limit(name, words)


keeper = SlotKeeper()


def _leave() -> None:
    keeper.drain()


at_exit(_leave)


def _begin_anew_in_child() -> None:
    """A child has none of its parent's slots, nor the thread that keeps them."""
    global keeper
    keeper = SlotKeeper()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
