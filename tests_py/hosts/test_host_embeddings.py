"""``redis_cache_embeddings`` on the real upstream host: its own functions, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nano_graphrag import GraphRAG
from nano_graphrag._llm import azure_openai_embedding, openai_embedding
from nano_graphrag._storage import JsonKVStorage
from nano_graphrag._utils import EmbeddingFunc

from nano_graphrag_redis import RedisKVStorage, cache_embeddings
from nano_graphrag_redis.exceptions import StorageConfigError
from nano_graphrag_redis.hosts import register, unregister
from support.host import running_llm
from support.servers import RedisServer

VARIABLE = "REDIS_CACHE_EMBEDDINGS"


@pytest.fixture(autouse=True)
def _registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORAGE_KV_BACKEND", "redis")
    register()
    yield
    unregister()


def embeds_with(**settings: Any) -> Any:
    """What a new GraphRAG calls, below the host's limit of concurrent calls."""
    return GraphRAG(**settings).embedding_func.__wrapped__


async def own(texts: list[str]) -> Any:
    return np.zeros((len(texts), 2))


MINE = EmbeddingFunc(embedding_dim=2, max_token_size=10, func=own)
LIKE_OPENAI = EmbeddingFunc(embedding_dim=1536, max_token_size=8192, func=openai_embedding.func)


def test_nothing_is_wrapped_unless_it_is_asked_for() -> None:
    assert embeds_with() is openai_embedding
    assert embeds_with(using_azure_openai=True) is azure_openai_embedding


@pytest.mark.parametrize("mode", ["questions", "all"])
def test_the_hosts_own_function_is_wrapped(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, mode)
    wrapped = embeds_with()
    assert wrapped is not openai_embedding
    assert isinstance(wrapped, EmbeddingFunc)
    assert (wrapped.embedding_dim, wrapped.max_token_size) == (1536, 8192)
    # Where the environment names Redis no more, or a class was given that is not ours.
    assert embeds_with(key_string_value_json_storage_cls=JsonKVStorage) is openai_embedding
    assert embeds_with(key_string_value_json_storage_cls=RedisKVStorage) is not openai_embedding
    monkeypatch.setenv("STORAGE_KV_BACKEND", "json")
    assert embeds_with() is openai_embedding


@pytest.mark.parametrize(
    "func",
    [MINE, LIKE_OPENAI, cache_embeddings(MINE, {"redis_url": "redis://nowhere"}, model="m")],
    ids=["own model", "own object", "cached already"],
)
def test_any_other_function_is_left_alone(func: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "all")
    assert embeds_with(embedding_func=func) is func


def test_the_application_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "all")
    settings = {"redis_cache_embeddings": "off"}
    assert embeds_with(addon_params=settings) is openai_embedding
    with pytest.raises(StorageConfigError, match=r"redis_cache_embeddings='some' .addon_params."):
        GraphRAG(addon_params={"redis_cache_embeddings": "some"})


@pytest.mark.parametrize(("mode", "asked"), [("off", 4), ("questions", 3), ("all", 2)])
def test_texts_that_were_embedded_before_are_not_asked_for_again(
    mode: str, asked: int, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_llm() as llm:
        for name, value in llm.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("nano_graphrag._llm.global_openai_async_client", None)
        settings = {
            "redis_url": server.url,
            "redis_cache_embeddings": mode,
            "redis_workspace": mode,
        }
        first, second = (GraphRAG(addon_params=settings) for _ in range(2))

        async def main() -> None:
            for texts in (["a question"], ["one", "another"]):
                once = await first.embedding_func(texts)
                again = await second.embedding_func(texts)
                assert np.array_equal(once, again)

        asyncio.run(main())
        assert llm.calls() == {"embedding": asked}


def test_azure_and_openai_share_no_vector(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_llm() as llm:
        variables = {
            **llm.environment,
            "AZURE_OPENAI_ENDPOINT": llm.environment["OPENAI_BASE_URL"],
            "AZURE_OPENAI_API_KEY": "none-needed",
            "OPENAI_API_VERSION": "2024-06-01",
            VARIABLE: "questions",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("nano_graphrag._llm.global_openai_async_client", None)
        monkeypatch.setattr("nano_graphrag._llm.global_azure_openai_async_client", None)
        settings = {"redis_url": server.url, "redis_workspace": "providers"}

        async def main() -> None:
            await GraphRAG(addon_params=settings).embedding_func(["a"])
            azure = GraphRAG(addon_params=settings, using_azure_openai=True)
            with pytest.raises(Exception, match="404"):  # it was asked, at Azure's address
                await azure.embedding_func(["a"])

        asyncio.run(main())
        assert llm.calls() == {"embedding": 1}
