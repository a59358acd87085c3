"""The base class of a key-value storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass
class StorageNameSpace:
    namespace: str
    global_config: dict[str, Any]

    async def index_start_callback(self) -> None:
        """Called before indexing."""

    async def index_done_callback(self) -> None:
        """Called after indexing, and after every answer of the LLM."""

    async def query_done_callback(self) -> None:
        """Called after a query."""


@dataclass
class BaseKVStorage(StorageNameSpace, Generic[T]):
    async def all_keys(self) -> list[str]:
        raise NotImplementedError

    async def get_by_id(self, id: str) -> T | None:
        raise NotImplementedError

    async def get_by_ids(self, ids: list[str], fields: set[str] | None = None) -> list[T | None]:
        raise NotImplementedError

    async def filter_keys(self, data: list[str]) -> set[str]:
        raise NotImplementedError

    async def upsert(self, data: dict[str, T]) -> None:
        raise NotImplementedError

    async def delete_by_id(self, id: str) -> bool:
        raise NotImplementedError

    async def drop(self) -> None:
        raise NotImplementedError
