"""Arguments shared by several commands, and the progress bars of those that work on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nano_graphrag_redis.migration import Progress, Report

from .completion import namespaces_for_completion
from .output import Bars

Namespace = Annotated[
    str,
    typer.Argument(
        metavar="NAMESPACE",
        help="full_docs, text_chunks, community_reports, llm_response_cache, or another.",
        show_default=False,
        autocompletion=namespaces_for_completion,
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id.", show_default=False)]
Directory = Annotated[
    Path,
    typer.Option("--from", metavar="DIR", help="The host's working_dir.", show_default=False),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        metavar="NAME",
        help="Only this namespace; repeatable. Default: all of them.",
        autocompletion=namespaces_for_completion,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]

_STEPS = {
    "check": "look over",
    "copy": "copy",
    "list": "list the ids of",
    "write": "write",
    "read": "read",
    "compare": "compare",
}


def told(bars: Bars) -> Report:
    """Has the work on files tell ``bars`` how far it is."""

    def tell(progress: Progress) -> None:
        what = f"{_STEPS[progress.step]} {progress.namespace}"
        bars.tell(what, progress.done, progress.total, progress.unit)

    return tell
