"""A set of reports, and the one that takes its place."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from nano_graphrag_redis import (
    RedisKVStorage,
)

OLD = {str(number): {"report_string": f"old {number}"} for number in range(5)}
NEW = {str(number): {"report_string": f"new {number}"} for number in range(3, 9)}
Settings = dict[str, Any]


async def contents(storage: RedisKVStorage) -> dict[str, Any]:
    ids = await storage.all_keys()
    return dict(zip(ids, await storage.get_by_ids(ids), strict=True))


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
