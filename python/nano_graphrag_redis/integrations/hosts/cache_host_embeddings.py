"""The hosts' own embedding functions and providers with a cache: ``redis_cache_embeddings``.

Only what the host itself has made is wrapped, because a vector is stored under the name of its
model: the code of upstream's functions names it, and a factory host's provider says it. Anything
else takes ``cache_embeddings``, which is told it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final
from urllib.parse import urlsplit

from nano_graphrag_redis.config import RedisConfig

_FUNCTIONS: Final = "nano_graphrag._llm"
_NAMES: Final = ("openai_embedding", "azure_openai_embedding")
_MODELS: Final = "text-embedding-"
"""What the names of OpenAI's models begin with."""


def cache_embeddings_of(graph_rag: Any) -> None:
    """Wraps the embedding function of a GraphRAG that has not built its storages yet.

    Raises:
        StorageConfigError: A setting is invalid.
    """
    given = {field.name: getattr(graph_rag, field.name) for field in fields(graph_rag)}
    config = RedisConfig.from_global_config(given)
    if config.redis_cache_embeddings == "off":
        return
    func = _chosen(graph_rag)
    model = _model_of(func)
    if model is not None:
        only_questions = config.redis_cache_embeddings == "questions"
        graph_rag.embedding_func = _cached(func, config, model, only_questions=only_questions)


def cache_embeddings_of_provider(graph_rag: Any, settings: Mapping[str, Any]) -> None:
    """Puts a cache before the embedding provider that a factory host has just made.

    Does nothing where the provider does not say its model and dimension.

    Args:
        graph_rag: The host's object, which looks its provider up at each call.
        settings: What its storages were given.

    Raises:
        StorageConfigError: A setting is invalid.
    """
    config = RedisConfig.from_global_config(dict(settings))
    provider: Any = getattr(graph_rag, "embedding_provider", None)
    known = isinstance(getattr(provider, "model", None), str) and isinstance(
        getattr(provider, "embedding_dim", None), int
    )
    if config.redis_cache_embeddings == "off" or not known:
        return
    if not inspect.iscoroutinefunction(getattr(provider, "embed", None)):
        return
    from nano_graphrag_redis.llm.cache_embeddings import cache_provider

    graph_rag.embedding_provider = cache_provider(
        provider,
        config,
        model=f"{_maker_of(provider)}:{provider.model}",
        only_questions=config.redis_cache_embeddings == "questions",
    )


def _maker_of(provider: Any) -> str:
    """Where a provider's model runs: one of the same name elsewhere may be another."""
    address = urlsplit(str(getattr(getattr(provider, "client", None), "base_url", "")))
    # Never the user or password of an address: the name is stored beside the vector.
    place = f"{address.netloc.rpartition('@')[2]}{address.path}"
    return place or type(provider).__name__


def _chosen(graph_rag: Any) -> Any:
    """The function that the host will call: it replaces OpenAI's by Azure's later than this."""
    func = getattr(graph_rag, "embedding_func", None)
    openai, azure = _hosts_own()
    return azure if func is openai and getattr(graph_rag, "using_azure_openai", False) else func


def _hosts_own() -> tuple[Any, Any]:
    functions = sys.modules.get(_FUNCTIONS)
    openai, azure = (getattr(functions, name, None) for name in _NAMES)
    return openai, azure


def _model_of(func: Any) -> str | None:
    """The only model that the code of a host's function names; None for any other function."""
    if not hasattr(func, "embedding_dim") or not any(func is each for each in _hosts_own()):
        return None
    code = getattr(inspect.unwrap(func.func), "__code__", None)
    constants = getattr(code, "co_consts", ())
    models = [each for each in constants if isinstance(each, str) and each.startswith(_MODELS)]
    # Azure's name is that of a deployment, which may hold another model.
    provider = "azure:" if func is _hosts_own()[1] else ""
    return f"{provider}{models[0]}" if len(models) == 1 else None


def _cached(func: Any, config: RedisConfig, model: str, *, only_questions: bool) -> Any:
    from nano_graphrag_redis.llm.cache_embeddings import cache_embeddings

    cached = cache_embeddings(func, config, model=model)
    if not only_questions:
        return cached

    # Every vector of an insert, 16 kB each with OpenAI's, would be much memory for few hits: a
    # document is inserted once, and a question is asked by many.
    async def embedding(texts: Sequence[str]) -> Any:
        return await (cached if len(texts) == 1 else func)(texts)

    return replace(func, func=embedding)
