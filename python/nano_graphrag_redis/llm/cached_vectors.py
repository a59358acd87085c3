"""``EmbeddingCache``: the vectors of one model in Redis. Needs numpy, which the host brings."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import numpy as np

from nano_graphrag_redis._core import KvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import EMBEDDING_CACHE
from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.storage_lifetime import Backend

from .vector_encoding import Vector, decoded, encoded

_Many = TypeVar("_Many", list[str], Vector)

Ask = Callable[[list[str]], Awaitable[Any]]

_MATRIX: Final = 2

AT_ONCE: Final = 64
"""Vectors that are encoded or decoded in one turn of the event loop: a few milliseconds."""


class EmbeddingCache:
    """The cached vectors of one model.

    Args:
        settings: As for ``cache_embeddings``.
        model: The model's name.
        dimension: The number of elements in a vector.
    """

    def __init__(
        self, settings: Mapping[str, Any] | RedisConfig | None, model: str, dimension: int
    ) -> None:
        if not isinstance(settings, RedisConfig):
            settings = RedisConfig.from_global_config(settings or {})
        config = settings.model_copy(
            update={
                # An embedding call never fails for want of a cache, whatever the documents do.
                "redis_outage_policy": {EMBEDDING_CACHE: "miss"},
                # The host's JSON files hold no vectors, so there is no way back to keep open.
                "redis_dual_write": False,
            }
        )
        self._backend = Backend(EMBEDDING_CACHE, config)
        # A single text, as a question is, waits for whoever is embedding it. A batch waits for
        # nobody: two that each embed what the other lacks would wait for each other.
        self._waits = config.redis_single_flight != "off"
        self._model = model
        self._dimension = dimension
        self._salt = f"{dimension}:{len(model)}:{model}:"

    async def embed(self, texts: Sequence[str], ask: Ask) -> Any:
        """Returns the vectors of ``texts``, one per row; ``ask`` supplies those not cached."""
        texts = list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            return await ask(texts)
        ids = [self._id_of(text) for text in texts]
        vectors = await self._read(list(dict.fromkeys(ids)))
        missing = {id: text for id, text in zip(ids, texts, strict=True) if id not in vectors}
        if not missing:
            return np.stack([vectors[id] for id in ids])
        try:
            given = await ask(list(missing.values()))
        except BaseException:
            self._give_up()
            raise
        rows = await self._rows(given, missing)
        if rows is None:
            self._waits = False  # others would wait in turn for what is never stored
            self._give_up()
            # Nothing that could be put together with vectors of this dimension.
            return given if len(missing) == len(texts) else await ask(texts)
        await self._write(rows)
        if len(missing) == len(texts):
            return given
        vectors.update({id: row for id, (row, _) in rows.items()})
        return np.stack([vectors[id] for id in ids])

    def _id_of(self, text: str) -> str:
        return hashlib.sha256((self._salt + text).encode("utf-8", "surrogatepass")).hexdigest()

    async def _rows(
        self, given: Any, missing: Mapping[str, str]
    ) -> dict[str, tuple[Vector, dict[str, Any]]] | None:
        """The provider's rows by id, each with its value; None if they cannot be stored."""
        try:
            rows = np.asarray(given)
        except ValueError:  # rows of different lengths
            rows = np.empty(0)
        values: list[dict[str, Any] | None] = []
        if rows.ndim == _MATRIX and rows.shape == (len(missing), self._dimension):
            for piece in _pieces(rows):
                values += [encoded(row, self._model) for row in piece]
                await asyncio.sleep(0)
        if not values or None in values:
            warn_once(
                f"embeddings of {visible(self._model)} are not cached: for each text the provider "
                f"gave {rows.dtype} of shape {rows.shape[1:]}, and embedding_dim is "
                f"{self._dimension}"
            )
            return None
        pairs = zip(missing, rows, values, strict=True)
        return {id: (row, value) for id, row, value in pairs if value is not None}

    async def _store(self) -> KvStore:
        if not self._backend.ready:
            await self._backend.join_aside()
        return self._backend.calls

    async def _read(self, ids: list[str]) -> dict[str, Vector]:
        def is_vector(value: Any) -> bool:
            return decoded(value, self._dimension) is not None

        vectors = {}
        try:
            store = await self._store()
            for piece in _pieces(ids):
                if self._waits and len(ids) == 1:
                    values = [await store.get_by_id(ids[0])]
                else:
                    values = await store.get_by_ids(piece, None, is_vector)
                for id, value in zip(piece, values, strict=True):
                    vector = decoded(value, self._dimension)
                    if vector is not None:
                        vectors[id] = vector
        except StorageError as error:
            self._tell(error)
        return vectors

    async def _write(self, rows: Mapping[str, tuple[Vector, dict[str, Any]]]) -> None:
        try:
            store = await self._store()
            await store.upsert({id: value for id, (_, value) in rows.items()})
        except StorageError as error:
            self._tell(error)

    def _give_up(self) -> None:
        """Nothing comes of this task: whoever waits for it embeds."""
        with suppress(StorageError):
            self._backend.store.give_up()

    def _tell(self, error: StorageError) -> None:
        """Warns of what no outage policy forgives: an embedded server that does not start."""
        warn_once(f"{EMBEDDING_CACHE}: embeddings are not cached: {visible(error)}")


def _pieces(many: _Many) -> Iterator[_Many]:
    """``many`` in pieces of at most ``AT_ONCE``."""
    for start in range(0, len(many), AT_ONCE):
        yield many[start : start + AT_ONCE]
