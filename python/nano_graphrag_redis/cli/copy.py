"""``copy``: copies the cached answers of one workspace to another."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import LLM_CACHE
from nano_graphrag_redis.exceptions import StorageSerializationError
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.migration.open_store import opened
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.useless_cached_answers import model_of

from .arguments import DryRun
from .exit_codes import Exit
from .read_cached_answers import Model, Unreadable, batches
from .session import Session

From = Annotated[
    str | None,
    typer.Option(
        "--from-workspace",
        metavar="NAME",
        help="The source; '' for no workspace. Default: REDIS_WORKSPACE.",
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to-workspace",
        metavar="NAME",
        help="The target; '' for no workspace.",
        show_default=False,
    ),
]


def copy(
    session: Session,
    to_workspace: To,
    from_workspace: From = None,
    model: Model = None,
    dry_run: DryRun = False,
) -> Exit | None:
    """Copy cached LLM answers from one workspace to another, so that they are not paid for again.

    Existing ids are left alone, but for one that a worker writes at the same moment: both answer
    the same prompt. A copied answer gets the full redis_ttl of the namespace.
    Exits 1 if an answer cannot be read or copied; the others are copied.
    """
    bare = session.looking if dry_run else session.bare
    if LLM_CACHE in bare.redis_shared_namespaces:
        raise typer.BadParameter(
            f"{LLM_CACHE} is among redis_shared_namespaces: every workspace has these answers"
        )
    source = bare if from_workspace is None else _in(bare, from_workspace, "--from-workspace")
    target = _in(bare, to_workspace, "--to-workspace")
    if source.redis_workspace == target.redis_workspace:
        raise typer.BadParameter("both workspaces are the same", param_hint="--to-workspace")
    copied = there = 0
    unreadable = Unreadable()
    refused: list[StorageSerializationError] = []
    with (
        session.output.progress() as bars,
        opened(LLM_CACHE, source) as answers,
        opened(LLM_CACHE, target) as copies,
    ):
        for batch in batches(answers, "copy", bars, unreadable):
            wanted = {id: value for id, value in batch if model in {None, model_of(value)}}
            missing = copies.filter_keys(wanted) if wanted else set()
            there += len(wanted) - len(missing)
            copied += len(missing)
            if not dry_run and missing:
                refused += _write(copies, {id: wanted[id] for id in missing})
    session.output.show(
        {
            "dry_run": dry_run,
            "copied": copied - len(refused),
            "already_there": there,
            "unreadable": unreadable.count,
        },
        lambda: (
            f"{'would copy' if dry_run else 'copied'} "
            f"{plural(copied - len(refused), 'answer')} to "
            f"{visible(to_workspace) or 'outside every workspace'}; {there:,} were there already"
        ),
    )
    if not copied + there + unreadable.count and model is None:
        session.output.say(f"there are no answers {_where(source)}", "yellow")
    for error in refused:
        session.output.refuse(error)
    if unreadable.count:
        session.output.say(str(unreadable), "yellow")
    return Exit.FOUND if unreadable.count or refused else None


def _write(copies: BlockingKvStore, values: dict[str, Any]) -> list[StorageSerializationError]:
    """Writes values; why some cannot be written, such as one with a lone surrogate in it."""
    try:
        copies.upsert(values)
    except StorageSerializationError as error:  # of one of them, and none was written
        if len(values) == 1:
            return [error]
        return [why for item in values.items() for why in _write(copies, dict([item]))]
    return []


def _where(config: RedisConfig) -> str:
    name = config.redis_workspace
    return f"in the workspace {visible(name)}" if name else "outside every workspace"


def _in(config: RedisConfig, workspace: str, option: str) -> RedisConfig:
    """The settings with another workspace.

    Raises:
        typer.BadParameter: It is no name of a workspace.
    """
    try:
        name = RedisConfig(redis_workspace=workspace).redis_workspace
    except ValueError as error:
        raise typer.BadParameter(visible(str(error)), param_hint=option) from None
    return config.model_copy(update={"redis_workspace": name})
