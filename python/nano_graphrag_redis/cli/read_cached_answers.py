"""Iterates over the cached answers of a namespace, for the commands that prune and copy them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config.namespaces import LLM_CACHE
from nano_graphrag_redis.exceptions import CorruptValueError, StorageOperationError
from nano_graphrag_redis.humanize import plural

from .completion import namespaces_for_completion
from .progress_bars import Bars

_BATCH = 64
"""Values in memory at a time, and between two updates of the bar."""

Caches = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        metavar="NAME",
        help=f"A namespace of cached answers. Default: {LLM_CACHE}.",
        autocompletion=namespaces_for_completion,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", help="Only the answers of this model.", metavar="NAME")
]


class Unreadable:
    """What could not be read and is therefore left out: within this, such an error is counted.

    Attributes:
        count: How many values.
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        left_out = isinstance(error, (CorruptValueError, StorageOperationError))
        self.count += left_out
        return left_out

    def __str__(self) -> str:
        left = "was" if self.count == 1 else "were"
        return (
            f"{plural(self.count, 'value')} cannot be read and {left} left out: "
            "nano-graphrag-redis doctor names them"
        )


def batches(
    store: BlockingKvStore, what: str, bars: Bars, unreadable: Unreadable
) -> Iterator[list[tuple[str, Any]]]:
    """The ids and values, batch by batch; values that cannot be read are counted instead."""
    ids = store.all_keys()
    for start in range(0, len(ids), _BATCH):
        yield _readable(store, ids[start : start + _BATCH], unreadable)
        bars.tell(what, min(start + _BATCH, len(ids)), len(ids), "ids")


def _readable(
    store: BlockingKvStore, ids: list[str], unreadable: Unreadable
) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    try:
        found.extend(zip(ids, store.get_by_ids(ids), strict=True))
    except (CorruptValueError, StorageOperationError):  # a key of another type
        for id in ids:
            with unreadable:
                found.append((id, store.get_by_id(id)))
    # None is a null that was stored, or an answer that has expired since its id was listed. Asked
    # after the values were read: one that expired in between would be taken for a null.
    gone = store.filter_keys([id for id, value in found if value is None])
    return [(id, value) for id, value in found if id not in gone]
