"""The requests that a limited call sends through httpx, as nearly all clients of providers do.

The clients retry by themselves, and so does the host around them: whoever only saw how a call ends
would not see the refusals before that, nor count the requests. So ``httpx.AsyncClient.send`` is
wrapped, as OpenTelemetry's and Sentry's instrumentations wrap it. Outside a limited call it does
what it did.
"""

from __future__ import annotations

import functools
import sys
import threading
from contextvars import ContextVar
from typing import Any, Final, Protocol

from .rate_limit_errors import TOO_MANY_REQUESTS, retry_after


class Call(Protocol):
    """What a limited call does about its requests."""

    async def before_request(self, request: str) -> None:
        """A request is about to be sent."""

    async def refused(self, seconds: float | None) -> None:
        """It was refused: the provider was asked too often."""


running: Final[ContextVar[Call | None]] = ContextVar("nano_graphrag_redis_call", default=None)
"""The limited call that this code runs in."""

_lock = threading.Lock()
_WRAPPED: Final = "_nano_graphrag_redis_original"


_LIBRARIES: Final = ("httpx", "httpx2")
"""The second is what newer versions of OpenAI's client are built on."""


def watch() -> None:
    """Wraps httpx, if it was imported and is not wrapped."""
    for name in _LIBRARIES:
        client = getattr(sys.modules.get(name), "AsyncClient", None)
        if client is not None and not hasattr(client.send, _WRAPPED):
            with _lock:
                _wrap(client)


def _wrap(client: Any) -> None:
    original = client.send
    if hasattr(original, _WRAPPED):
        return

    @functools.wraps(original)
    async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        call = running.get()
        if call is None:
            return await original(self, request, *args, **kwargs)
        await call.before_request(f"{request.method} {request.url}")
        response = await original(self, request, *args, **kwargs)
        if response.status_code == TOO_MANY_REQUESTS:
            await call.refused(retry_after(response.headers))
        return response

    setattr(send, _WRAPPED, original)
    client.send = send
