"""``export --to``: from Redis to the host's JSON files."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from nano_graphrag_redis import migration
from nano_graphrag_redis.humanize import size
from nano_graphrag_redis.migration import Exported
from nano_graphrag_redis.migration.namespaces_and_foreign_keys import told_of_foreign
from nano_graphrag_redis.printable import visible

from .arguments import DryRun, Only
from .exit_codes import Exit
from .output import PROGRAM, table
from .progress_bars import told
from .session import Session
from .unknown_namespaces import refused

Target = Annotated[
    Path,
    typer.Option(
        "--to", metavar="DIR", help="Target directory; created if missing.", show_default=False
    ),
]


def export(
    session: Session, directory: Target, namespace: Only = None, dry_run: DryRun = False
) -> Exit | None:
    """Write namespaces as the JSON files of a working directory.

    Each file replaces the old one once it is complete. A file of values is left as it is where the
    server holds nothing of its namespace. Exits 1 if you named such a namespace, if there is none
    of that name, or if a namespace is not a valid file name.
    """
    if mistyped := refused(session, namespace or ()):
        return mistyped
    with session.output.progress() as bars:
        exported = migration.export(
            directory, session.config, namespaces=namespace, dry_run=dry_run, progress=told(bars)
        )
    session.output.show(summary(exported), lambda: report(exported))
    if not exported.files and not exported.refused:
        session.output.say(f"there is no namespace at {session.where}: nothing to export", "yellow")
    elif dry_run:
        session.output.advise("the same without --dry-run")
    elif exported.ok and exported.files:
        session.output.advise(
            f"{PROGRAM} verify --from {visible(shlex.quote(str(directory)))}; the host reads "
            "the files with STORAGE_KV_BACKEND=json and this working_dir"
        )
    missed = exported.left if namespace else ()
    return None if exported.ok and not missed else Exit.FOUND


def summary(exported: Exported) -> dict[str, object]:
    """The result, for ``--json``."""
    files = [asdict(file) | {"path": str(file.path)} for file in exported.files]
    return {
        "directory": str(exported.directory),
        "files": files,
        "dry_run": exported.dry_run,
        "refused": [asdict(each) for each in exported.refused],
        "foreign_keys": {"count": exported.foreign_count, "examples": exported.foreign},
        "left": [str(path) for path in exported.left],
        "skipped": [asdict(each) | {"log": str(each.log)} for each in exported.skipped],
    }


def report(exported: Exported) -> RenderableType:
    """The result, as text."""
    made = table("namespace", "ids", "size", "file", numbers=("ids", "size"))
    for file in exported.files:
        made.add_row(visible(file.namespace), f"{file.ids:,}", size(file.size), visible(file.path))
    said = [
        Text(f"{visible(each.namespace)} is left out: {visible(each.reason)}", "red")
        for each in exported.refused
    ]
    said += [
        Text(
            f"{visible(path)} is left as it is: the server holds nothing of its namespace. Delete "
            "the file if the host is not to read it",
            "yellow",
        )
        for path in exported.left
    ]
    if exported.dry_run:
        said.append(Text("nothing was written", "yellow"))
    if exported.foreign_count:
        said.append(Text(told_of_foreign(exported.foreign_count, exported.foreign), "yellow"))
    return Group(made, *said)
