"""The share of a limit that a process keeps to by itself while the shared one cannot be asked."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass

POLL = 0.1
"""Seconds between two looks for a free slot, at most."""


@dataclass(frozen=True)
class Rates:
    """What a provider permits; None for no limit.

    Attributes:
        requests: A minute.
        tokens: A minute.
        concurrent: Calls at once.
    """

    requests: float | None = None
    tokens: float | None = None
    concurrent: int | None = None

    def interval(self, a_minute: float | None) -> float:
        """Microseconds between two of so many a minute; 0 without a limit.

        A hundredth longer than the limit asks: a call that starts up to 0.6 s late, as one in a
        busy process does, takes no minute over its limit.
        """
        return 60.6e6 / a_minute if a_minute else 0.0

    @staticmethod
    def burst(a_minute: float | None) -> float:
        """How many may come at once: as many as in a second, and one at least."""
        return max(1.0, a_minute / 60) if a_minute else 1.0


class LocalLimit:
    """One process's share of a limit; safe to use from any thread and loop.

    Args:
        rates: Of all workers together.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._lock = threading.Lock()
        self._reserved = {"requests": 0.0, "tokens": 0.0}
        self._paused_until = 0.0

    def pause(self, seconds: float) -> None:
        """No call is permitted for so long."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def permit(self, tokens: int, workers: int, slots: SlotCount) -> None:
        """Returns when this process may make a call, of so many workers that share the limit."""
        most = self._rates.concurrent
        share = max(1, most // workers) if most else None
        while not slots.take(share):  # noqa: ASYNC110  # given back in any loop and thread
            await asyncio.sleep(random.uniform(POLL / 2, POLL))  # noqa: S311  # no secret
        try:
            wait = self._reserve(tokens, workers)
            while wait > 0:
                await asyncio.sleep(wait)
                wait = self._paused_until - time.monotonic()
        except BaseException:
            slots.give_back()
            raise

    def _reserve(self, tokens: int, workers: int) -> float:
        """Seconds to wait, by the algorithm of ``llm_limits.lua``."""
        rates = self._rates
        with self._lock:
            now = time.monotonic()
            start = base = max(now, self._paused_until)
            for what, a_minute, cost in (
                ("requests", rates.requests, 1),
                ("tokens", rates.tokens, tokens),
            ):
                if not a_minute:
                    continue
                interval = rates.interval(a_minute) * workers / 1e6
                burst = rates.burst(a_minute / workers)
                ending = max(self._reserved[what], base) + cost * interval
                self._reserved[what] = ending
                start = max(start, ending - burst * interval)
            return start - now


class SlotCount:
    """How many calls this process makes at once, with whichever permit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, most: int | None) -> bool:
        """Counts one more, unless there are as many as may be."""
        with self._lock:
            if most is not None and self._taken >= most:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        """Counts one less."""
        with self._lock:
            self._taken -= 1
