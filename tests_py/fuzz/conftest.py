"""Inputs nobody thought of. `make fuzz MINUTES=60` tries longer than a run of the tests."""

from __future__ import annotations

import os

import hypothesis
import pytest
from hypothesis import HealthCheck

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
"""How many times the examples of an ordinary run."""


def tried(examples: int) -> hypothesis.settings:
    """Of a property: so many examples, or more; times of a busy machine are no property."""
    return hypothesis.settings(
        max_examples=examples * EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(60 + 60 * EXAMPLES))
