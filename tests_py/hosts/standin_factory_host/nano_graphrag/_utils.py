"""Embedding functions, as storages of vectors are given them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class EmbeddingFunc:
    embedding_dim: int
    max_token_size: int
    func: Callable[..., Awaitable[Any]]

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await self.func(*args, **kwargs)
