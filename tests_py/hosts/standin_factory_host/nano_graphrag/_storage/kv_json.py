"""The JSON storage: a namespace in memory, a file when it is told to save."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import BaseKVStorage


@dataclass
class JsonKVStorage(BaseKVStorage[Any]):
    def __post_init__(self) -> None:
        self._file = Path(self.global_config["working_dir"]) / f"kv_store_{self.namespace}.json"
        exists = self._file.exists()
        self._data = json.loads(self._file.read_text(encoding="utf-8")) if exists else {}

    async def all_keys(self) -> list[str]:
        return list(self._data)

    async def get_by_id(self, id: str) -> Any:
        return self._data.get(id)

    async def get_by_ids(self, ids: list[str], fields: set[str] | None = None) -> list[Any]:
        found = [self._data.get(id) for id in ids]
        if fields is None:
            return found
        return [
            {name: value for name, value in each.items() if name in fields} if each else None
            for each in found
        ]

    async def filter_keys(self, data: list[str]) -> set[str]:
        return {id for id in data if id not in self._data}

    async def upsert(self, data: dict[str, Any]) -> None:
        self._data.update(data)

    async def delete_by_id(self, id: str) -> bool:
        existed = id in self._data
        self._data.pop(id, None)
        return existed

    async def drop(self) -> None:
        self._data = {}

    async def index_done_callback(self) -> None:
        with self._file.open("w", encoding="utf-8") as file:
            json.dump(self._data, file, indent=2, ensure_ascii=False)
