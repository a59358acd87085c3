"""``fold --in``: brings the JSON files of dual writing up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nano_graphrag_redis import migration
from nano_graphrag_redis.migration.export_and_fold_files import logs_in
from nano_graphrag_redis.printable import visible

from .export import report, summary
from .session import Session

Kept = Annotated[
    Path,
    typer.Option("--in", metavar="DIR", help="The host's working_dir.", show_default=False),
]


def fold(session: Session, directory: Kept) -> None:
    """Bring the JSON files of redis_dual_write up to date, for example after a crash.

    Uses the logged values if the server is down.
    """
    folded = migration.fold(directory, session.config)
    session.output.show(summary(folded), lambda: report(folded) if folded.files else None)
    if not folded.files:
        session.output.say(
            f"there is no log of changes in {visible(directory)}: nothing to fold", "dim"
        )
    for namespace in logs_in(directory):
        session.output.say(
            f"kv_store_{visible(namespace)}.changes keeps what only the server can say, and it did "
            "not answer: fold again when it does, and before a host on JSON writes the file",
            "yellow",
        )
