"""Arguments and options: of every command, and of several; ages such as ``7d``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from .completion import namespaces_for_completion

_CONNECTION = "Connection (other settings come from the environment)"
_URL = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The server; overrides REDIS_URL.", rich_help_panel=_CONNECTION
    ),
]
_WORKSPACE = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        metavar="NAME",
        help="The workspace; overrides REDIS_WORKSPACE.",
        rich_help_panel=_CONNECTION,
    ),
]
_PREFIX = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="NAME",
        help="The key prefix; overrides REDIS_KEY_PREFIX.",
        rich_help_panel=_CONNECTION,
    ),
]

OF_EVERY_COMMAND: Final = {
    "url": ("redis_url", _URL),
    "workspace": ("redis_workspace", _WORKSPACE),
    "prefix": ("redis_key_prefix", _PREFIX),
}
"""The options that are added to every command, each with the setting that it overrides."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

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

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Seconds."""


def age_in_seconds(age: str) -> int:
    """Raises typer.BadParameter for anything but a number with a unit."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", age.strip())
    if found is None:
        raise typer.BadParameter("give a number and a unit: 90m, 36h, 7d")
    return int(found[1]) * _UNITS[found[2]]
