"""``migrate --from``: the host's JSON files to Redis."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from nano_graphrag_redis import migration
from nano_graphrag_redis.config.types_and_limits import LONGEST_TTL
from nano_graphrag_redis.humanize import plural, size
from nano_graphrag_redis.migration import Migrated
from nano_graphrag_redis.printable import visible

from .arguments import Directory, DryRun, Only
from .exit_codes import Exit
from .output import PROGRAM, table
from .progress_bars import told
from .session import Session

Ttl = Annotated[
    int | None,
    typer.Option(
        "--ttl",
        min=0,
        max=LONGEST_TTL,
        metavar="SECONDS",
        help="TTL of ids that are new on the server; 0 for no expiry. "
        "Default: the TTL configured for each namespace.",
    ),
]

WorkingDir = Annotated[
    Path | None,
    typer.Option(
        "--working-dir",
        metavar="DIR",
        help="The working_dir of the host that will read from Redis, if --from is a backup of it.",
        show_default=False,
    ),
]


def migrate(  # noqa: PLR0917 # options, which are given by name
    session: Session,
    directory: Directory,
    namespace: Only = None,
    ttl: Ttl = None,
    working_dir: WorkingDir = None,
    dry_run: DryRun = False,
) -> Exit | None:
    """Copy the JSON files of a working directory to Redis.

    Run again, it copies only what differs. An id that is there keeps its remaining time to live.
    The files are read only, and the host may write them meanwhile.

    Exits 1 if some ids cannot be stored.
    """
    with session.output.progress() as bars:
        plan = migration.plan(
            directory,
            session.config,
            namespaces=namespace,
            ttl=ttl,
            working_dir=working_dir,
            progress=told(bars),
        )
    ids = sum(file.ids for file in plan.files)
    session.output.say(
        f"{plural(ids, 'id')} in {plural(len(plan.files), 'file')} ({size(plan.size)}) "
        f"{'goes' if ids == 1 else 'go'} to {session.where}"
    )
    for notice in plan.notices():
        session.output.say(f"{notice}: pass --ttl to change that", "yellow")
    with session.output.progress() as bars:
        migrated = migration.migrate(plan, dry_run=dry_run, progress=told(bars))
    session.output.show(
        {"notices": plan.notices(), "ok": migrated.ok, **asdict(migrated)},
        lambda: _report(migrated),
    )
    checking = f"{PROGRAM} verify --from {shlex.quote(str(directory))}"
    if dry_run:
        session.output.say("next: the same without --dry-run", "dim")
    elif migrated.ok:
        session.output.say(
            f"next: {visible(checking)}; then start the host with STORAGE_KV_BACKEND=redis", "dim"
        )
    return None if migrated.ok else Exit.FOUND


def _report(migrated: Migrated) -> RenderableType:
    numbers = ("in file", "new", "replaced", "unchanged", "refused")
    made = table("namespace", *numbers, numbers=numbers)
    refused: list[RenderableType] = []
    for each in migrated.namespaces:
        made.add_row(
            visible(each.namespace),
            *(
                f"{number:,}"
                for number in (
                    each.ids,
                    each.written,
                    each.replaced,
                    each.unchanged,
                    each.refused_count,
                )
            ),
        )
        refused += [
            Text(f"{visible(each.namespace)} {visible(one.id)}: {visible(one.reason)}", "red")
            for one in each.refused
        ]
    if migrated.dry_run:
        refused.append(Text("nothing was written", "yellow"))
    return Group(made, *refused)
