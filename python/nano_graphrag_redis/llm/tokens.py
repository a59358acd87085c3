"""How many tokens a call takes: guessed before it, counted after it where that is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard

BYTES_A_TOKEN: Final = 4
"""Of UTF-8; about right for the tokenizers of today in most languages."""

FIRST_ANSWER: Final = 500
"""Tokens that an answer is taken to have before any was seen."""

_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MOST: Final = 10**9
"""Tokens that a call may be said to take; a larger number counts nothing, nor does one below 0."""
_WEIGHT: Final = 0.1
"""Of the newest answer in the mean of all."""


class TokenEstimate:
    """What the calls of one limit take."""

    def __init__(self) -> None:
        self._answer = float(FIRST_ANSWER)

    def before(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens of the prompt, and those to be expected of the answer."""
        named = {name: value for name, value in kwargs.items() if name != "hashing_kv"}
        prompt = sum(len(text.encode("utf-8", "surrogatepass")) for text in _texts([*args, named]))
        params = kwargs.get("params")
        limits = {**kwargs, **params} if isinstance(params, Mapping) else kwargs
        # -1 and the largest integer stand for no limit, with some providers.
        told = (limits.get(name) for name in _LIMITS)
        most = next((number for number in told if number != 0 and _is_count(number)), None)
        return -(-prompt // BYTES_A_TOKEN), most or round(self._answer)

    def after(self, prompt: int, result: Any) -> int:
        """Tokens that a call has taken: those that the answer names, or its length."""
        usage = result.get("usage") if isinstance(result, Mapping) else None
        usage = usage or getattr(result, "usage", None)
        total = (
            usage.get("total_tokens")
            if isinstance(usage, Mapping)
            else getattr(usage, "total_tokens", None)
        )
        if _is_count(total):
            taken = total
        else:
            answer = sum(len(text.encode("utf-8", "surrogatepass")) for text in _texts([result]))
            taken = prompt + -(-answer // BYTES_A_TOKEN)
        self._answer += _WEIGHT * (max(taken - prompt, 0) - self._answer)
        return taken


def _is_count(number: object) -> TypeGuard[int]:
    return isinstance(number, int) and 0 <= number <= _MOST


def _texts(values: Any) -> Iterator[str]:
    """Every text in nested lists and dicts, without their keys; what is in itself counts once."""
    pending, seen = [values], {}
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen[id(value)] = value  # kept, so that nothing else gets its id
            pending += value.values() if isinstance(value, Mapping) else value
