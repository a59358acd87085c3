"""What is looked at in the background is not looked at under other tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nano_graphrag_redis import _core


@pytest.fixture(autouse=True)
def no_census_afterwards() -> Iterator[None]:
    yield
    _core.metrics(census_every=0)
