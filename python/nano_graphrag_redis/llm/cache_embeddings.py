"""``cache_embeddings``: a text that one worker has embedded is not embedded again.

The host caches LLM answers but no embeddings. Vectors have a namespace of their own, and are stored
under a hash of model, dimension and text.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from nano_graphrag_redis.config import RedisConfig

    from .cached_vectors import Ask


class Embeds(Protocol):
    """What both have: a function without a dimension is refused before it runs."""

    @property
    def embedding_dim(self) -> int:
        """The numbers of a vector."""


Embedding = TypeVar("Embedding", bound=Embeds)


_UNCACHED: Final = "_nano_graphrag_redis_uncached"
"""Where a provider with a cache keeps the one without."""


def cache_embeddings(
    func: Embedding,
    settings: Mapping[str, Any] | RedisConfig | None = None,
    *,
    model: str,
) -> Embedding:
    """Wraps an embedding function so that it asks its provider only for texts not cached in Redis.

    A text that occurs twice in a batch is requested once. Vectors come back bit for bit, in the
    provider's type: 16, 32 or 64-bit floats; other types are not cached. A Redis outage never
    fails a call: the provider is asked, and the failure is counted as ``forgiven``. A stored value
    that cannot be used, for example because it is damaged, counts as a miss and is replaced.

    Args:
        func: nano-graphrag's ``EmbeddingFunc``, or an embedding provider of the factory host: an
            object with ``embed``, ``embedding_dim`` and ``model``. It is not modified.
        settings: Settings named ``redis_*``, or the host's ``addon_params``; the environment
            supplies the rest. ``redis_ttl={"embedding_cache": seconds}`` sets the TTL of vectors,
            12 hours by default. ``redis_dual_write`` and ``redis_outage_policy`` have no effect.
        model: The name of the model, which is part of the key. Change it whenever the
            same text would be embedded differently.

    Returns:
        A new ``EmbeddingFunc``, whose ``func`` is a plain function so that the host can copy it,
        or a copy of the provider. It works on any event loop, in threads, and after ``fork``.

    Raises:
        StorageConfigError: A setting is invalid.
        TypeError: ``func`` is neither of the two.

    Example:
        >>> import asyncio
        >>> import numpy as np
        >>> from nano_graphrag._utils import EmbeddingFunc
        >>> async def ask(texts):
        ...     print("asked for", texts)
        ...     return np.array([[len(text) / 1] for text in texts])
        >>> func = EmbeddingFunc(embedding_dim=1, max_token_size=8192, func=ask)
        >>> func = cache_embeddings(func, {"redis_url": url}, model="lengths")
        >>> print(asyncio.run(func(["a", "bb"])).tolist())
        asked for ['a', 'bb']
        [[1.0], [2.0]]
        >>> print(asyncio.run(func(["bb", "ccc"])).tolist())
        asked for ['ccc']
        [[2.0], [3.0]]
    """
    from .cached_vectors import EmbeddingCache  # imports numpy, which the storages do not need

    if is_dataclass(func) and not isinstance(func, type) and hasattr(func, "embedding_dim"):
        ask: Ask = func.func
        cache = EmbeddingCache(settings, model, func.embedding_dim)

        async def embedding(texts: Sequence[str]) -> Any:
            return await cache.embed(texts, ask)

        return replace(func, func=embedding)
    if inspect.iscoroutinefunction(getattr(func, "embed", None)):
        return cast("Embedding", cache_provider(func, settings, model=model))
    raise TypeError(
        "cache_embeddings takes nano-graphrag's EmbeddingFunc or a provider with an async embed(), "
        f"not {type(func).__name__}: give a function its dimension with EmbeddingFunc or "
        "wrap_embedding_func_with_attrs"
    )


def cache_provider(
    provider: Any,
    settings: Mapping[str, Any] | RedisConfig | None,
    *,
    model: str,
    only_questions: bool = False,
) -> Any:
    """A copy of a factory host's provider whose ``embed`` reads the cache first.

    Args:
        provider: The provider, or a copy that this made of it: two caches, one before the other,
            would keep each vector twice.
        settings: As for ``cache_embeddings``.
        model: As for ``cache_embeddings``.
        only_questions: Whether calls with more than one text go past the cache.
    """
    from .cached_vectors import EmbeddingCache

    provider = getattr(provider, _UNCACHED, provider)
    cache = EmbeddingCache(settings, model, provider.embedding_dim)

    async def embed(texts: Sequence[str], timeout: float | None = None) -> dict[str, Any]:
        if only_questions and len(texts) != 1:
            return cast("dict[str, Any]", await provider.embed(texts, timeout=timeout))
        response: dict[str, Any] = {
            "dimensions": provider.embedding_dim,
            "model": provider.model,
            "usage": {"prompt_tokens": 0, "total_tokens": 0},
        }

        async def ask(missing: list[str]) -> Any:
            response.update(await provider.embed(missing, timeout=timeout))
            return response["embeddings"]

        vectors = await cache.embed(texts, ask)
        return response | {"embeddings": vectors}

    cached = copy.copy(provider)
    cached.embed = embed
    setattr(cached, _UNCACHED, provider)
    return cached
