"""Providers as the host has them; these answer by themselves, and remember what they were asked."""

from __future__ import annotations

from hashlib import md5
from typing import Any


class LLMRateLimitError(Exception):
    """What a provider makes of a refusal for too many requests."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LLMProvider:
    """A language model; the cache is looked into before ``complete``."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.asked: list[str] = []

    async def complete(
        self,
        prompt: str,
        system_prompt: str | None = None,
        history: list[dict[str, str]] | None = None,
        params: dict[str, Any] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        self.asked.append(prompt)
        return {
            "text": f"answer to {prompt}",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            "raw": None,
        }

    async def complete_with_cache(  # noqa: PLR0917  # as the host has it
        self,
        prompt: str,
        system_prompt: str | None = None,
        history: list[dict[str, str]] | None = None,
        hashing_kv: Any = None,
        params: dict[str, Any] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> str:
        args_hash = md5(repr((self.model, prompt, system_prompt, history)).encode()).hexdigest()
        if hashing_kv is not None:
            cached = await hashing_kv.get_by_id(args_hash)
            if cached is not None:
                return str(cached["return"])
        response = await self.complete(prompt, system_prompt, history, params, timeout, **kwargs)
        if hashing_kv is not None:
            await hashing_kv.upsert({args_hash: {"return": response["text"], "model": self.model}})
            await hashing_kv.index_done_callback()
        return str(response["text"])


class EmbeddingProvider:
    """A model of embeddings."""

    max_token_size = 8192

    def __init__(self, model: str, embedding_dim: int) -> None:
        self.model = model
        self.embedding_dim = embedding_dim
        self.asked: list[list[str]] = []

    async def embed(
        self,
        texts: list[str],
        timeout: float | None = None,
    ) -> dict[str, Any]:
        import numpy as np

        self.asked.append(list(texts))
        vectors = [np.full(self.embedding_dim, len(text) / 3) for text in texts]
        return {
            "embeddings": np.array(vectors),
            "dimensions": self.embedding_dim,
            "model": self.model,
            "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)},
        }
