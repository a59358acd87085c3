"""Memory is that of the largest values, not of the file."""

from __future__ import annotations

import pytest

from migration import large

MEGABYTES = 80
MEMORY = 95
"""MiB: an interpreter with pydantic takes 40, and what is under way up to 40, more of it where
others keep the machine busy. ``make migrate-large`` takes a file of 2 GB."""


@pytest.mark.timeout(300)
def test_a_file_larger_than_the_memory_allowed_goes_there_and_back() -> None:
    for name, ran in large.move(MEGABYTES).items():
        assert ran.mib < MEMORY, name
