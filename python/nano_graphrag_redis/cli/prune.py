"""``prune``: cached answers that are none, and registry entries of values that are gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, LLM_CACHE
from nano_graphrag_redis.exceptions import CorruptValueError, StorageOperationError
from nano_graphrag_redis.migration.work import opened
from nano_graphrag_redis.visible import visible
from nano_graphrag_redis.wording import so_many

from .exits import Exit
from .namespaces import refused
from .output import Bars
from .session import Session

_PIECE = 500
"""Values read between two looks at the bar, and at Ctrl-C."""

Caches = Annotated[
    list[str] | None,
    typer.Option("--namespace", help=f"A namespace of cached answers. Default: {LLM_CACHE}."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count empty answers.")]


def prune(session: Session, namespace: Caches = None, dry_run: DryRun = False) -> Exit | None:
    """Delete cached answers that are null or empty, and registry entries whose value has expired.

    An empty answer is useless; once it is deleted, the LLM is asked again. Exits 1 if there is no
    such namespace.
    """
    if mistyped := refused(session, namespace or ()):
        return mistyped
    # First: whoever lists the ids of a namespace removes what has expired on the way.
    expired = _expired(session) if session.config.redis_registry and not dry_run else None
    pruned: dict[str, int] = {}
    with session.output.progress() as bars:
        for name in namespace or [LLM_CACHE]:
            with opened(name, session.bare) as store:
                pruned[name] = _prune(store, name, bars, dry_run)
    said = [f"{'would delete' if dry_run else 'deleted'} {_answers(pruned)}"]
    if expired is not None:
        entries = so_many(sum(expired.values()), "registry entry", "registry entries")
        said.append(f"removed {entries} without a value")
    session.output.show(
        {"dry_run": dry_run, "answers": pruned, "registry_entries": expired},
        lambda: "\n".join(said),
    )
    return None


def _prune(store: BlockingKvStore, namespace: str, bars: Bars, dry_run: bool) -> int:
    ids = store.all_keys()
    count = 0
    for start in range(0, len(ids), _PIECE):
        empty = [id for id, value in _read(store, ids[start : start + _PIECE]) if _is_empty(value)]
        count += len(empty) if dry_run else store.delete_by_ids(empty)
        bars.tell(f"prune {namespace}", min(start + _PIECE, len(ids)), len(ids), "ids")
    return count


def _read(store: BlockingKvStore, ids: list[str]) -> Iterator[tuple[str, Any]]:
    """Values that are there; `doctor` tells of those that cannot be read, and they stay."""
    gone = store.filter_keys(ids)
    there = [id for id in ids if id not in gone]
    try:
        yield from zip(there, store.get_by_ids(there), strict=True)
    except (CorruptValueError, StorageOperationError):  # a key of another type
        for id in there:
            with contextlib.suppress(CorruptValueError, StorageOperationError):
                yield id, store.get_by_id(id)


def _is_empty(value: Any) -> bool:
    answer = value.get("return") if isinstance(value, dict) else value
    return answer is None or (isinstance(answer, str) and not answer.strip())


def _expired(session: Session) -> dict[str, int]:
    removed = {}
    for name in HOST_NAMESPACES:
        with opened(name, session.bare) as store:
            _, removed[name] = store.repair()
    return removed


def _answers(pruned: dict[str, int]) -> str:
    return ", ".join(
        f"{so_many(count, 'empty answer')} of {visible(name)}" for name, count in pruned.items()
    )
