"""``prune``: deletes useless cached answers, and registry entries whose value is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, LLM_CACHE
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.migration.open_store import opened
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.useless_cached_answers import is_empty, is_unparseable, model_of

from .arguments import age_in_seconds
from .exit_codes import Exit
from .progress_bars import Bars
from .read_cached_answers import Caches, Model, Unreadable, batches
from .session import Session
from .unknown_namespaces import refused

Unparseable = Annotated[
    bool,
    typer.Option("--unparseable", help="Answers with a JSON object that cannot be parsed."),
]
OlderThan = Annotated[
    int | None,
    typer.Option(
        "--older-than",
        parser=age_in_seconds,
        metavar="AGE",
        help="Answers older than this: 90m, 36h, 7d. The age of an answer is the namespace's "
        "redis_ttl minus its remaining TTL, or what redis_ttl_sliding has noted; so answers that "
        "were written with another TTL, as by migrate --ttl, count as older or younger.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the answers.")]

Choice = Callable[[BlockingKvStore, "list[tuple[str, Any]]"], "list[str]"]
"""Of a batch of ids and values, the ids to delete."""

Ages = Callable[[BlockingKvStore, "list[str]"], "list[float | None]"]

_GRACE = 60
"""Seconds by which the key that notes the age of a renewed value outlives its time (the core's)."""


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
    instead. The LLM is asked again for deleted answers. Exits 1 if there is no such namespace, or
    if an answer cannot be read.
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
    unreadable = Unreadable()
    with session.output.progress() as bars:
        for name in names:
            ages = _ages(session.config, name)
            chosen = _choice(model, older_than, ages, unparseable)
            with opened(name, session.looking if dry_run else session.bare) as store:
                pruned[name] = _prune(
                    store, f"prune {name}", bars, chosen, dry_run=dry_run, unreadable=unreadable
                )
    kind = "" if model is not None or older_than is not None else "empty "
    kind = "unparseable " if unparseable else kind
    said = [f"{'would delete' if dry_run else 'deleted'} {_answers(pruned, kind)}"]
    if expired is not None:
        entries = plural(sum(expired.values()), "registry entry", "registry entries")
        said.append(f"removed {entries} without a value")
    session.output.show(
        {
            "dry_run": dry_run,
            "answers": pruned,
            "registry_entries": expired,
            "unreadable": unreadable.count,
        },
        lambda: "\n".join(said),
    )
    if session.config.redis_dual_write and not dry_run and any(pruned.values()):
        # It knows none of the service's working directories.
        session.output.say(
            "the files of redis_dual_write still hold them: export anew before a service goes back "
            "to its files",
            "yellow",
        )
    if unreadable.count:
        session.output.say(str(unreadable), "yellow")
        return Exit.FOUND
    return None


def _ages(config: RedisConfig, namespace: str) -> Ages:
    """How the ages of answers are told, in seconds; None of one that does not expire."""
    ttl, slides = config.ttl_for(namespace), config.slides(namespace)

    def ages(store: BlockingKvStore, ids: list[str]) -> list[float | None]:
        root = store.prefix.removesuffix(f"{namespace}:")
        noted = [f"{root}@born:{namespace}:{id}" for id in ids] if slides else []
        keys = [*(f"{store.prefix}{id}" for id in ids), *noted]
        left = [left for _, left in store.look([key.encode() for key in keys])]
        born = left[len(ids) :] or [None] * len(ids)
        return [_age(*each) for each in zip(left[: len(ids)], born, strict=True)]

    def _age(left: int | None, born: int | None) -> float | None:
        if left is None:
            return None
        if born is None or born < left:  # not renewed since it was written
            return ttl - left / 1000
        return config.redis_ttl_max_age + _GRACE - born / 1000

    return ages


def _choice(model: str | None, older_than: int | None, ages: Ages, unparseable: bool) -> Choice:
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
        pairs = zip(ids, ages(store, ids), strict=True)
        return [id for id, age in pairs if age is not None and age > older_than]

    return chosen


def _prune(
    store: BlockingKvStore,
    what: str,
    bars: Bars,
    choice: Choice,
    *,
    dry_run: bool,
    unreadable: Unreadable,
) -> int:
    count = 0
    for batch in batches(store, what, bars, unreadable):
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
