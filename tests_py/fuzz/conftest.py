"""Inputs nobody thought of. `make fuzz MINUTES=60` tries longer than a run of the tests."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis.database import DirectoryBasedExampleDatabase

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
"""How many times the examples of an ordinary run."""

SEED = int(os.environ.get("FUZZ_SEED") or secrets.randbits(32))
"""Of everything that is tried; the same number tries the same again."""


FOUND = Path(__file__).parents[2] / "target" / "fuzz" / "hypothesis"
"""Where the examples that failed are kept: the next run tries them first."""


def pytest_report_header() -> str:
    """Says how a run is repeated."""
    return f"fuzz: FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}"


@pytest.fixture(autouse=True)
def told() -> None:
    """Says the seed with a test that fails."""
    print(f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}")  # noqa: T201 - shown with a failure


def seed(test: Any) -> None:
    """Has a property tried with the seed: as `hypothesis.seed`, which turns the database off."""
    test._hypothesis_internal_use_seed = SEED


def tried(examples: int) -> hypothesis.settings:
    """Of a property: so many examples, or more; times of a busy machine are no property."""
    return hypothesis.settings(
        max_examples=examples * EXAMPLES,
        deadline=None,
        database=DirectoryBasedExampleDatabase(FOUND),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue  # all that were collected are given to every conftest
        item.add_marker(pytest.mark.timeout(60 + 60 * EXAMPLES))
        if isinstance(item, pytest.Function) and hypothesis.is_hypothesis_test(item.obj):
            seed(item.obj)
