"""The comparison itself: one that found nothing would let every other test pass."""

from typing import Any

import pytest

from values.documents import MAX_DEPTH, Count, Level, Name, Row, nested
from values.exact import difference


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        (0.1, 0.1 + 2**-56),
        (float("nan"), None),
        (float("nan"), -float("nan")),
        (2**64, 2**64 + 1),
        ("e\u0301", "é"),
        ("a", Name("a")),
        (1, Count(1)),
        (1, Level.LOW),
        ([1], (1,)),
        ([1], Row([1])),
        ([1], [1, 1]),
        ([[]], [{}]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": None}, {"b": None}),
        ({"a": [{"b": 0.0}]}, {"a": [{"b": -0.0}]}),
        (nested(MAX_DEPTH, "ld", 1), nested(MAX_DEPTH, "ld", True)),
    ],
    ids=lambda value: f"{value!a:.30}",
)
def test_a_difference_is_found(left: Any, right: Any) -> None:
    assert difference(left, right)
    assert difference(right, left)


@pytest.mark.parametrize(
    "document", [None, -0.0, float("nan"), 2**64, "\u2028", [], {"a": [1, {"b": float("nan")}]}]
)
def test_a_document_equals_itself(document: Any) -> None:
    assert difference(document, document) is None


def test_a_difference_says_where_it_lies() -> None:
    assert difference({"a": [0, {"b": 1}]}, {"a": [0, {"b": 2}]}) == "$['a'][1]['b']: 1 is not 2"
