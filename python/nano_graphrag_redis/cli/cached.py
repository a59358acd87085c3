"""Iterates over the cached answers of a namespace, for the commands that prune and copy them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config.namespaces import LLM_CACHE
from nano_graphrag_redis.exceptions import CorruptValueError, StorageOperationError

from .output import Bars

_BATCH = 500
"""Values in memory at a time, and between two updates of the bar."""

Caches = Annotated[
    list[str] | None,
    typer.Option("--namespace", help=f"A namespace of cached answers. Default: {LLM_CACHE}."),
]
Model = Annotated[
    str | None, typer.Option("--model", help="Only the answers of this model.", metavar="NAME")
]


def batches(store: BlockingKvStore, what: str, bars: Bars) -> Iterator[list[tuple[str, Any]]]:
    """The ids and values, batch by batch; values that cannot be read are left out."""
    ids = store.all_keys()
    for start in range(0, len(ids), _BATCH):
        yield list(_readable(store, ids[start : start + _BATCH]))
        bars.tell(what, min(start + _BATCH, len(ids)), len(ids), "ids")


def _readable(store: BlockingKvStore, ids: list[str]) -> Iterator[tuple[str, Any]]:
    gone = store.filter_keys(ids)
    there = [id for id in ids if id not in gone]
    try:
        yield from zip(there, store.get_by_ids(there), strict=True)
    except (CorruptValueError, StorageOperationError):  # a key of another type
        for id in there:
            with contextlib.suppress(CorruptValueError, StorageOperationError):
                yield id, store.get_by_id(id)
