"""The commands together, with their help."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from nano_graphrag_redis._core import __version__
from nano_graphrag_redis.printable import visible

from . import run
from .changes import changes
from .copy import copy
from .doctor import doctor
from .drop import drop
from .exit_codes import Exit
from .export import export
from .fold import fold
from .get import get
from .keys import keys
from .metrics import metrics
from .migrate import migrate
from .output import PROGRAM, Output, replace_what_cannot_be_said
from .prune import prune
from .server import start, status, stop
from .session import command
from .stats import stats
from .verify import verify

_CODES = (
    "Exit codes: 0 success; 1 a problem was found (an error, a difference, a missing id); "
    "2 wrong usage or settings (an option, a setting, a refused login); 3 the server could not be "
    "reached; 4 the server, a file or a value prevented the operation; 130 Ctrl-C."
)

app = typer.Typer(
    name=PROGRAM,
    help="Redis storage for nano-graphrag.",
    epilog=_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    # A bug is shown as Python shows it: without the values of variables, which may be secrets.
    pretty_exceptions_enable=False,
)

_GROUPS: dict[str, dict[Callable[..., Exit | None], str]] = {
    "Check and watch": {
        doctor: "doctor",
        stats: "stats --price-per-call 0.01",
        metrics: "metrics --dir ./metrics --once",
    },
    "Move between files and Redis": {
        migrate: "migrate --from ./cache --dry-run",
        verify: "verify --from ./cache",
        export: "export --to ./files --namespace full_docs",
        fold: "fold --in ./cache",
    },
    "Look at values, and delete them": {
        keys: "keys full_docs | head",
        changes: "changes --last 20",
        get: "get full_docs doc-1",
        prune: "prune --older-than 7d --dry-run",
        copy: "copy --to-workspace acme --dry-run",
        drop: "drop community_reports --yes",
    },
}
"""The commands of each panel of the help, each with an example."""

_RUNNING = "Run"

_PANELS_FIT = 72
"""Columns: in fewer, the help would cut words off, and is plain text."""

for panel, commands in _GROUPS.items():
    for body, example in commands.items():
        app.command(rich_help_panel=panel, epilog=f"Example: {PROGRAM} {example}")(command(body))

server = typer.Typer(help="An embedded server that keeps running while no application uses it.")
for part in (start, stop, status):
    server.command(epilog=f"Example: {PROGRAM} server {part.__name__} ./redis")(command(part))
app.add_typer(server, name="server", rich_help_panel=_RUNNING)


@app.command(
    name="run",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    rich_help_panel=_RUNNING,
)
def _run(
    arguments: Annotated[
        list[str], typer.Argument(metavar="SCRIPT|-m MODULE|COMMAND [ARGUMENT]...")
    ],
) -> None:
    """Start an unmodified application and all its workers on Redis."""
    raise typer.Exit(run.main(arguments))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit code."""
    if list(arguments[:1]) != ["run"]:  # the script's streams are its own
        replace_what_cannot_be_said()
    try:
        narrow: dict[str, int] = {}
        if (columns := shutil.get_terminal_size().columns) < _PANELS_FIT:
            app.rich_markup_mode = None
            narrow["terminal_width"] = columns
        code = app(list(arguments), prog_name=PROGRAM, standalone_mode=False, **narrow)
    except SystemExit as ended:
        code = ended.code
    except BrokenPipeError:
        return Exit.PIPE
    except OSError as error:  # of the help or the version, which no session says
        Output(as_json=False).refuse(error)
        return Exit.FAILED
    except Exception as wrong:
        # Newer versions of typer have classes of their own in place of click's.
        if not hasattr(wrong, "format_message"):
            raise
        return _refused(wrong)
    return code if isinstance(code, int) else 0


def _refused(wrong: Any) -> int:
    """Says what was not asked right, which may quote an argument; gives the exit code."""
    # Help was printed in place of it.
    if type(wrong).__name__ != "NoArgsIsHelpError":
        output = Output(as_json=False)
        if wrong.ctx is not None:
            output.say(wrong.ctx.get_usage(), "dim")
        output.refuse(LookupError(visible(wrong.format_message())))
    return int(wrong.exit_code)
