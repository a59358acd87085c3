"""``prune``: deletes useless cached answers, and registry entries whose value is gone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import typer

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.answers import is_empty, is_unparseable, model_of
from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, LLM_CACHE
from nano_graphrag_redis.migration.common import opened
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.wording import plural

from .cached import Caches, Model, batches
from .exit_codes import Exit
from .namespaces import refused
from .output import Bars
from .session import Session

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(age: str) -> int:
    """Raises typer.BadParameter for anything but a number with a unit."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", age.strip())
    if found is None:
        raise typer.BadParameter("give a number and a unit: 90m, 36h, 7d")
    return int(found[1]) * _UNITS[found[2]]


Unparseable = Annotated[
    bool,
    typer.Option("--unparseable", help="Answers with a JSON object that cannot be parsed."),
]
OlderThan = Annotated[
    int | None,
    typer.Option(
        "--older-than",
        parser=_seconds,
        metavar="AGE",
        help="Answers older than this: 90m, 36h, 7d. The age of an answer is the namespace's "
        "redis_ttl minus its remaining TTL.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the answers.")]

Choice = Callable[[BlockingKvStore, "list[tuple[str, Any]]"], "list[str]"]
"""Of a batch of ids and values, the ids to delete."""


def prune(
    session: Session,
    *,
    namespace: Caches = None,
    model: Model = None,
    older_than: OlderThan = None,
    unparseable: Unparseable = False,
    dry_run: DryRun = False,
) -> Exit | None:
    """Delete cached answers that are null or empty, and registry entries whose value has expired.

    With --model, --older-than or --unparseable, deletes the answers that match all of these
    instead. The LLM is asked again for deleted answers. Exits 1 if there is no such namespace.
    """
    names = namespace or [LLM_CACHE]
    if mistyped := refused(session, namespace or ()):
        return mistyped
    if older_than is not None and (endless := [n for n in names if not session.config.ttl_for(n)]):
        raise typer.BadParameter(
            f"the answers of {visible(endless[0])} never expire, so their age is not known",
            param_hint="--older-than",
        )
    # First: whoever lists the ids of a namespace removes what has expired on the way.
    expired = _expired(session) if session.config.redis_registry and not dry_run else None
    pruned: dict[str, int] = {}
    with session.output.progress() as bars:
        for name in names:
            chosen = _choice(model, older_than, session.config.ttl_for(name), unparseable)
            with opened(name, session.bare) as store:
                pruned[name] = _prune(store, f"prune {name}", bars, chosen, dry_run)
    kind = "" if model or older_than is not None else "empty "
    kind = "unparseable " if unparseable else kind
    said = [f"{'would delete' if dry_run else 'deleted'} {_answers(pruned, kind)}"]
    if expired is not None:
        entries = plural(sum(expired.values()), "registry entry", "registry entries")
        said.append(f"removed {entries} without a value")
    session.output.show(
        {"dry_run": dry_run, "answers": pruned, "registry_entries": expired},
        lambda: "\n".join(said),
    )
    return None


def _choice(model: str | None, older_than: int | None, ttl: int, unparseable: bool) -> Choice:
    def of_value(value: Any) -> bool:
        if model is None and older_than is None and not unparseable:
            return is_empty(value)
        return (model is None or model_of(value) == model) and (
            not unparseable or is_unparseable(value)
        )

    def chosen(store: BlockingKvStore, batch: list[tuple[str, Any]]) -> list[str]:
        ids = [id for id, value in batch if of_value(value)]
        if older_than is None or not ids:
            return ids
        looked = store.look([f"{store.prefix}{id}".encode() for id in ids])
        most = (ttl - older_than) * 1000
        pairs = zip(ids, looked, strict=True)
        return [id for id, (_, left) in pairs if left is not None and left < most]

    return chosen


def _prune(store: BlockingKvStore, what: str, bars: Bars, choice: Choice, dry_run: bool) -> int:
    count = 0
    for batch in batches(store, what, bars):
        ids = choice(store, batch)
        count += len(ids) if dry_run else store.delete_by_ids(ids)
    return count


def _expired(session: Session) -> dict[str, int]:
    removed = {}
    for name in HOST_NAMESPACES:
        with opened(name, session.bare) as store:
            _, removed[name] = store.repair()
    return removed


def _answers(pruned: dict[str, int], kind: str) -> str:
    return ", ".join(
        f"{plural(count, f'{kind}answer')} of {visible(name)}" for name, count in pruned.items()
    )
