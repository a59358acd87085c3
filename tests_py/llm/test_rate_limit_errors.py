"""A provider's word on how long to wait is found, however it reaches us."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from nano_graphrag_redis.llm.rate_limit_errors import retry_after, wait_of
from nano_graphrag_redis.llm.tokens import FIRST_ANSWER, TokenEstimate

DATE = "Sat, 28 Nov 2026 12:00:00 GMT"
LATER = "Sat, 28 Nov 2026 12:00:30 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": LATER, "date": DATE}, 30.0),
        ({"retry-after": DATE, "date": LATER}, 0.0),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
    ],
    ids=str,
)
def test_headers_say_how_long(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


class RefusedError(Exception):
    """As clients raise it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("slow down")
        vars(self).update(attributes)


def response(status: int = 429, **headers: str) -> SimpleNamespace:
    return SimpleNamespace(status_code=status, headers={"retry-after": "7"} | headers)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RefusedError(status_code=429, response=response()), 7.0),
        (RefusedError(response=response()), 7.0),
        (RefusedError(retry_after=3), 3.0),
        (RefusedError(status_code=503, response=response(503)), None),
        (RefusedError(status_code=429), None),
        (RefusedError(), None),
    ],
    ids=["openai", "httpx", "factory host", "another status", "no headers", "another error"],
)
def test_an_exception_says_how_long_and_so_does_one_it_led_to(
    error: Exception, seconds: float | None
) -> None:
    assert wait_of(error) == seconds
    try:
        try:
            raise error
        except RefusedError as cause:
            raise ValueError("translated") from cause
    except ValueError as translated:
        assert wait_of(translated) == seconds

    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    def refused() -> None:
        raise error

    with pytest.raises(tenacity.RetryError) as given_up:
        refused()
    assert wait_of(given_up.value) == seconds


def test_a_number_that_is_too_large_asks_for_nothing() -> None:
    assert wait_of(RefusedError(retry_after=10**400)) is None


def test_exceptions_that_lead_to_each_other_are_looked_at_once() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert wait_of(first) is None


def test_tokens_are_guessed_by_length_and_counted_where_that_is_told() -> None:
    estimate = TokenEstimate()
    history = [{"role": "user", "content": "x" * 40}]
    asked = (["y" * 41], {"history_messages": history, "hashing_kv": "z" * 400})
    assert estimate.before(*asked) == (22, FIRST_ANSWER)  # "user" counts, too
    assert estimate.before(["x"], {"max_tokens": 9}) == (1, 9)
    assert estimate.before(["x"], {"params": {"max_output_tokens": 8}}) == (1, 8)
    assert estimate.after(10, "x" * 40) == 20
    assert estimate.after(10, {"text": "x", "usage": {"total_tokens": 123}}) == 123
    assert estimate.after(10, SimpleNamespace(usage=SimpleNamespace(total_tokens=4))) == 4
    assert estimate.after(10, None) == 10
    assert estimate.before(["x"], {})[1] < FIRST_ANSWER


@pytest.mark.parametrize("number", [-1, 0, 2**63 - 1, 10**400], ids=["-1", "0", "i64", "huge"])
def test_a_number_that_stands_for_no_limit_is_no_estimate(number: int) -> None:
    assert TokenEstimate().before(["x"], {"max_tokens": number}) == (1, FIRST_ANSWER)


@pytest.mark.parametrize("number", [-1, 10**400], ids=["-1", "huge"])
def test_a_count_that_no_call_takes_counts_nothing(number: int) -> None:
    answer = {"text": "x" * 40, "usage": {"total_tokens": number}}
    assert TokenEstimate().after(10, answer) == 20


def test_what_is_in_itself_ends() -> None:
    messages: list[Any] = ["x" * 40]
    messages.append({"messages": messages})
    assert TokenEstimate().before(["y"], {"history_messages": messages})[0] == 11
