"""``limit_llm``: one rate limit for the calls of all workers; cached answers take none of it."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from nano_graphrag_redis.config import RedisConfig

from . import httpx_hooks
from .fallback_limit import Rates
from .rate_limit_errors import wait_of
from .shared_limit import Permit, SharedLimit
from .tokens import TokenEstimate

Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")

_CACHE: Final = "hashing_kv"
"""The argument by which the host gives a function its cache."""


def limit_llm(
    func: Callable[Parameters, Awaitable[Answer]],
    settings: Mapping[str, Any] | RedisConfig | None = None,
    *,
    model: str,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    concurrent: int | None = None,
) -> Callable[Parameters, Coroutine[Any, Any, Answer]]:
    """The same function, which waits for its turn among the calls of all workers.

    A permit is taken when the answer is not cached: where the host passes ``hashing_kv``, once
    that has none, and for each request that is sent again; else before the call. Turns are given in
    the order of arrival, by the server's clock. A 429 with ``Retry-After`` pauses all workers for
    so long, even where the client or the host retries by itself, if the client is built on httpx.

    No error of Redis reaches the caller. Without a server, or when its turn is more than 600
    seconds off, a call is held to this worker's part: the limits, divided by the workers seen
    last; counted as ``local_permits``.

    Args:
        func: A function that asks a language model: nano-graphrag's ``best_model_func``,
            ``cheap_model_func``, or the ``complete`` of a factory host's provider.
        settings: Settings named ``redis_*``, or the host's ``addon_params``; the environment gives
            the rest. Workspaces have limits of their own, unless ``redis_shared_namespaces`` names
            ``llm_limits``.
        model: The name of the limit: functions that give the same share it.
        requests_per_minute: Requests that may be sent in a minute; as many at once as in a second.
        tokens_per_minute: Tokens of prompts and answers in a minute. Estimated before a call by
            the length of its texts and ``max_tokens``; settled after it by the ``usage`` of the
            answer, or its length.
        concurrent: Calls at once. The slot of a process that was killed is free after 15 seconds.

    Returns:
        A plain async function, so that the host may copy it. It works on any event loop, in
        threads, and after ``fork``.

    Raises:
        StorageConfigError: A setting is wrong.
        ValueError: A limit is not above 0, ``concurrent`` is not whole, or there is none.
        TypeError: ``func`` is not callable, or gives an async iterator; a limit is no number.

    Example:
        >>> import asyncio
        >>> async def complete(prompt, **kwargs):
        ...     return f"answer to {prompt}"
        >>> limited = limit_llm(
        ...     complete, {"redis_url": url}, model="gpt-4o", requests_per_minute=600, concurrent=50
        ... )
        >>> print(asyncio.run(limited("why?")))
        answer to why?
    """
    if not callable(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"limit_llm takes an async function that gives an answer, not {func!r}")
    rates = _checked(requests_per_minute, tokens_per_minute, concurrent)
    limit = SharedLimit(settings, model, rates)
    estimate = TokenEstimate()
    habits = _Habits()

    @functools.wraps(func)
    async def limited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        httpx_hooks.watch()
        call = _Call(limit, *estimate.before(args, kwargs))
        cache = kwargs.get(_CACHE)
        before = httpx_hooks.running.set(call)
        try:
            if cache is None or habits.ignores_cache:
                await call.permit()
            if cache is not None:
                kwargs[_CACHE] = _Cache(cache, call)
            answer = await func(*args, **kwargs)
        except BaseException as error:
            await call.failed(error)
            raise
        else:
            if call.permitted:
                call.taken = estimate.after(call.prompt, answer)
            if cache is not None:
                habits.ignores_cache = not call.asked_cache
            return answer
        finally:
            httpx_hooks.running.reset(before)
            call.end()

    return limited


def _checked(requests: float | None, tokens: float | None, concurrent: int | None) -> Rates:
    limits = {
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
        "concurrent": concurrent,
    }
    for name, number in limits.items():
        if number is not None and not _is_limit(number):
            raise ValueError(f"limit_llm: {name}={number!r} must be above 0; None for no limit")
    if concurrent is not None and concurrent != int(concurrent):
        raise ValueError(f"limit_llm: concurrent={concurrent!r} must be a whole number")
    if not any(limits.values()):
        raise ValueError(f"limit_llm: give at least one limit of {', '.join(limits)}")
    return Rates(
        None if requests is None else float(requests),
        None if tokens is None else float(tokens),
        None if concurrent is None else int(concurrent),
    )


def _is_limit(number: float) -> bool:
    if isinstance(number, (bool, str, bytes)):
        raise TypeError(f"limit_llm: a limit must be a number, not {number!r}")
    try:
        return 0 < float(number) < math.inf
    except OverflowError:
        return False


class _Habits:
    """What was seen of a function.

    Attributes:
        ignores_cache: When it last answered, it had not looked into the cache that it was given:
            before its next call a permit is taken.
    """

    ignores_cache = False


class _Cache:
    """The host's cache, which takes a permit when it has no answer."""

    def __init__(self, cache: Any, call: _Call) -> None:
        self._cache = cache
        self._call = call

    async def get_by_id(self, id: str) -> Any:
        """What is cached; else None, when the model may be asked."""
        self._call.asked_cache = True
        answer = await self._cache.get_by_id(id)
        if answer is None and not self._call.is_ready:
            await self._call.permit()
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


class _Call:
    """One call, from its first permit to its end.

    Attributes:
        prompt: Tokens of its prompt.
        permitted: Whether it has had a permit.
        is_ready: Whether it has one for its next request.
        taken: Tokens that it took.
        asked_cache: Whether its function has looked into the cache.
    """

    def __init__(self, limit: SharedLimit, prompt: int, answer: int) -> None:
        self.prompt = prompt
        self.permitted = False
        self.taken = prompt
        self.asked_cache = False
        self._estimate = max(prompt + answer, 1)
        self._limit = limit
        self._permit = Permit()
        self._asked = self.is_ready = False
        self._sent: set[str] = set()
        self._ended = False

    async def permit(self) -> None:
        """Waits until one more request may be sent."""
        self._asked = True
        await self._limit.permit(self._permit, self._estimate)
        self.permitted = self.is_ready = True

    async def before_request(self, request: str) -> None:
        """A request that nobody took a permit for, or that is sent again, takes one."""
        if self._ended:
            return
        if not self.is_ready and (not self.permitted or request in self._sent):
            await self.permit()
        self.is_ready = False
        self._sent.add(request)

    async def refused(self, seconds: float | None) -> None:
        """All workers pause, if the provider says for how long."""
        if seconds is not None and not self._ended:
            await self._limit.pause(seconds)

    async def failed(self, error: BaseException) -> None:
        """A refusal that was not seen on its way is read from the exception."""
        if not self._sent and isinstance(error, Exception):
            # Exceptions of others may have properties that raise: their own must reach the caller.
            seconds = None
            with suppress(Exception):
                seconds = wait_of(error)
            await self.refused(seconds)

    def end(self) -> None:
        """Gives back what it holds."""
        self._ended = True
        if self._asked:
            self._limit.settle(self._permit, self.taken if self.permitted else 0)
