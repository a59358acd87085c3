"""The host's own Redis storage, as far as it matters here: it is the one to be replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..base import BaseKVStorage


@dataclass
class RedisKVStorage(BaseKVStorage[Any]):
    pass
