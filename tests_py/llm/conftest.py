"""Providers that count what they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nano_graphrag._utils import EmbeddingFunc
from numpy.typing import NDArray

from support.host import Llm, running_llm
from support.servers import RedisServer, server_binaries

from .model import Model

DIMENSION = 8


class Provider:
    """Embeds texts as their hashes have it, in float64, and remembers each batch.

    Attributes:
        batches: The texts of each request.
        error: Raised by the next requests in place of an answer.
    """

    def __init__(self, dimension: int = DIMENSION, dtype: str = "float64") -> None:
        self.dimension = dimension
        self.dtype = dtype
        self.batches: list[list[str]] = []
        self.error: Exception | None = None

    def vectors(self, texts: list[str]) -> NDArray[Any]:
        """What it says of the texts, every time."""
        seeds = [np.frombuffer(text.encode("utf-8", "surrogatepass"), "u1") for text in texts]
        numbers = [
            np.random.default_rng(seed.astype("u4")).standard_normal(self.dimension)
            for seed in seeds
        ]
        return np.array(numbers).astype(self.dtype)

    async def ask(self, texts: list[str]) -> Any:
        """The function of an EmbeddingFunc."""
        self.batches.append(list(texts))
        if self.error is not None:
            raise self.error
        return self.vectors(texts)

    @property
    def func(self) -> EmbeddingFunc:
        """The host's object over it."""
        return EmbeddingFunc(embedding_dim=self.dimension, max_token_size=8192, func=self.ask)


@pytest.fixture
def provider() -> Provider:
    """A provider that nobody has asked yet."""
    return Provider()


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.error = None  # its traceback holds the limited function, and that a connection


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What lies between the host and its providers: one kind of server is enough."""
    return server_binaries()["valkey"]


@pytest.fixture
def own_server(server_binary: Path) -> Iterator[RedisServer]:
    """A server of this test alone, to be stopped and killed."""
    with RedisServer(server_binary) as running:
        yield running


@pytest.fixture(scope="module")
def llm() -> Iterator[Llm]:
    """The demo's offline language model."""
    with running_llm() as running:
        yield running
