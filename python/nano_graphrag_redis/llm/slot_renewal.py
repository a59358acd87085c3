"""Slots of a concurrency limit: a thread of each limit renews its slots, and gives them back.

Not the event loops: one that computes for a minute, as the host's does when it clusters a graph,
would lose its slots to others, and a call that was cancelled must not wait to be accounted for.
Nor one thread for all limits: a server that is silent would hold up the slots on others.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
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


class SlotKeeper:
    """The slots of one limit that this process holds.

    Args:
        store: Gives the store that has the limit.
        name: The limit's name there.
    """

    def __init__(self, store: Callable[[], BlockingKvStore], name: str) -> None:
        self._store = store
        self._name = name
        self._begin()
        _keepers.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._releases: deque[tuple[str, float]] = deque()
        self._due = 0.0
        self._asking = False
        self._thread: threading.Thread | None = None

    def begin_anew_in_child(self) -> None:
        """A child has none of its parent's slots, nor the thread that keeps them."""
        self._begin()

    def hold(self, slot: str) -> None:
        """Renews a slot from now on."""
        with self._changed:
            if not self._held:
                self._due = time.monotonic() + RENEW_EVERY
                self._changed.notify_all()
            self._held.add(slot)
            self._start()

    def release(self, slot: str, excess: float) -> None:
        """Gives a slot back, if it is held, and tokens that were reserved in excess.

        Args:
            slot: The slot's name.
            excess: Microseconds of the tokens; below 0 if more were taken than reserved.
        """
        with self._changed:
            self._held.discard(slot)
            self._releases.append((slot, excess))
            self._start()
            self._changed.notify_all()

    def drain(self, within: float) -> None:
        """Waits until all that was to be given back has arrived, for at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._releases and not self._asking, within)

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
                    renewed = list(self._held)
                    self._due = time.monotonic() + RENEW_EVERY
                self._asking = True
            for slot, excess in releases:
                self._ask("release", slot, f"{excess:.0f}")
            if renewed:
                self._ask("renew", f"{SLOT_TTL * 1e6:.0f}", *renewed)
            with self._changed:
                self._asking = False
                self._changed.notify_all()

    def _is_due(self) -> bool:
        return bool(self._held) and time.monotonic() >= self._due

    def _ask(self, *words: str) -> None:
        # What cannot be given back expires; what cannot be renewed is lost to others for a while.
        with suppress(StorageError):
            self._store().limit(self._name, words)


_keepers: weakref.WeakSet[SlotKeeper] = weakref.WeakSet()
"""Those of this process."""


def give_back_all() -> None:
    """Waits until all limits were given back what they are owed, within ``LAST_RELEASES``."""
    deadline = time.monotonic() + LAST_RELEASES
    for keeper in list(_keepers):
        keeper.drain(deadline - time.monotonic())


at_exit(give_back_all)


def _begin_anew_in_child() -> None:
    for keeper in list(_keepers):
        keeper.begin_anew_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
