"""``fold --in``: JSON files that are kept by dual writing, brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nano_graphrag_redis import migration

from .export import report, summary
from .session import Session

Kept = Annotated[
    Path,
    typer.Option("--in", metavar="DIR", help="The host's working_dir.", show_default=False),
]


def fold(session: Session, directory: Kept) -> None:
    """Bring the JSON files up to date that redis_dual_write keeps, after a crash say.

    Without a server it takes the values that were logged.
    """
    folded = migration.fold(directory, session.config)
    session.output.show(summary(folded), lambda: report(folded))
