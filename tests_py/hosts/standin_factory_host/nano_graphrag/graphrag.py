"""The object that owns the storages."""

from __future__ import annotations

from typing import Any

from ._storage.factory import StorageFactory
from .config import GraphRAGConfig


class GraphRAG:
    def __init__(self, config: GraphRAGConfig | None = None) -> None:
        self.config = config or GraphRAGConfig()
        self.full_docs = self._kv_storage("full_docs")
        self.text_chunks = self._kv_storage("text_chunks")
        self.community_reports = self._kv_storage("community_reports")
        self.llm_response_cache = self._kv_storage("llm_response_cache")

    def _kv_storage(self, namespace: str) -> Any:
        return StorageFactory.create_kv_storage(
            backend=self.config.storage.kv_backend,
            namespace=namespace,
            global_config=self.config.to_dict(),
        )
