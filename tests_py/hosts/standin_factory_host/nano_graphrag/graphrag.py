"""The object that owns the storages."""

from __future__ import annotations

from typing import Any

from ._storage.factory import StorageFactory
from ._utils import EmbeddingFunc
from .config import GraphRAGConfig
from .llm import EmbeddingProvider, LLMProvider


class GraphRAG:
    def __init__(self, config: GraphRAGConfig | None = None) -> None:
        self.config = config or GraphRAGConfig()
        self.llm_provider = LLMProvider("standin")
        self.embedding_provider = EmbeddingProvider("standin-embedding", 4)

        async def embed(texts: list[str]) -> Any:
            return (await self.embedding_provider.embed(texts))["embeddings"]

        self.embedding_func = EmbeddingFunc(
            embedding_dim=self.embedding_provider.embedding_dim, max_token_size=8192, func=embed
        )
        self.full_docs = self._kv_storage("full_docs")
        self.text_chunks = self._kv_storage("text_chunks")
        self.community_reports = self._kv_storage("community_reports")
        self.llm_response_cache = self._kv_storage("llm_response_cache")

    async def best_model_func(self, prompt: str, **kwargs: Any) -> str:
        return await self.llm_provider.complete_with_cache(
            prompt, hashing_kv=self.llm_response_cache, **kwargs
        )

    def _kv_storage(self, namespace: str) -> Any:
        return StorageFactory.create_kv_storage(
            backend=self.config.storage.kv_backend,
            namespace=namespace,
            global_config=self.config.to_dict(),
        )
