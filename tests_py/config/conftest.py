"""Fixtures of the settings' tests."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from nano_graphrag_redis.config import warn_once


@pytest.fixture
def warnings_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[], list[str]]:
    """The warnings so far about settings, in a process that had said none before the test."""
    monkeypatch.setattr(warn_once, "_said", set())
    caplog.set_level(logging.WARNING, logger="nano_graphrag_redis")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "nano_graphrag_redis"]
