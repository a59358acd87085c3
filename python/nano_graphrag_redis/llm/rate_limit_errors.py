"""What a provider says when it was asked too often: HTTP 429, and how long to wait."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

TOO_MANY_REQUESTS: Final = 429

_DEEPEST: Final = 16
"""Exceptions that are looked at, of those that led to one."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers of a refusal ask to wait; None where they ask for nothing.

    >>> retry_after({"retry-after": "5"}), retry_after({"retry-after-ms": "250"}), retry_after({})
    (5.0, 0.25, None)
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return seconds / unit
    try:
        until = parsedate_to_datetime(str(headers.get("retry-after"))).timestamp()
    except (TypeError, ValueError):
        return None
    try:
        # By the clock of whoever set the date.
        now = parsedate_to_datetime(str(headers.get("date"))).timestamp()
    except (TypeError, ValueError):
        now = time.time()
    return max(until - now, 0.0)


def wait_of(error: BaseException) -> float | None:
    """Seconds that an exception asks to wait; None if it is no refusal, or asks for nothing.

    Known are the exceptions of OpenAI's client and those like them (``status_code``, and
    ``response`` with ``headers``), those with a ``retry_after``, and tenacity's ``RetryError``.
    """
    for each in _causes(error):
        seconds = _number(getattr(each, "retry_after", None))
        if seconds is not None:
            return seconds
        response = getattr(each, "response", None)
        status = getattr(each, "status_code", None) or getattr(response, "status_code", None)
        headers = getattr(response, "headers", None)
        if status == TOO_MANY_REQUESTS and headers is not None:
            return retry_after(headers)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that led to it."""
    pending: list[Any] = [error]
    seen: list[BaseException] = []
    while pending and len(seen) < _DEEPEST:
        each = pending.pop(0)
        if not isinstance(each, BaseException) or each in seen:
            continue
        seen.append(each)
        yield each
        attempt = getattr(each, "last_attempt", None)
        if callable(getattr(attempt, "exception", None)) and getattr(attempt, "failed", False):
            pending.append(attempt.exception())  # type: ignore[union-attr]
        pending += [each.__cause__, each.__context__]


def _number(said: Any) -> float | None:
    if said is None or isinstance(said, bool):
        return None
    try:
        number = float(said)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
