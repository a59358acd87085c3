"""Inputs nobody thought of. `make fuzz MINUTES=60` tries longer than a run of the tests."""

from __future__ import annotations

import os
import secrets

import hypothesis
import pytest
from hypothesis import HealthCheck, core

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
"""How many times the examples of an ordinary run."""

SEED = int(os.environ.get("FUZZ_SEED") or secrets.randbits(32))
"""Of everything that is tried; the same number tries the same again."""


def pytest_report_header() -> str:
    """Says how a run is repeated."""
    return f"fuzz: FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}"


@pytest.fixture(autouse=True)
def seed(monkeypatch: pytest.MonkeyPatch) -> int:
    """The seed, which a test that fails shows."""
    monkeypatch.setattr(core, "global_force_seed", SEED)
    print(f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}")  # noqa: T201 - shown with a failure
    return SEED


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
