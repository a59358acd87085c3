"""The command ``nano-graphrag-redis``: one module for each of its commands.

``app`` puts them together, ``session`` is what they share, ``output`` the one place that says
things, ``exit_codes`` the exit codes. ``run`` stays apart: it imports none of what the others need.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .flush_output import unwritten, written

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Those after the program's name; the process's own when None.

    Returns:
        The exit code; see ``exit_codes.Exit``.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # What they import takes a while, in which Ctrl-C may come.
        if arguments[:1] == ["run"]:
            from . import run

            return written(run.main(arguments[1:]))
        from . import app

        return written(app.main(arguments))
    except KeyboardInterrupt:  # before a command has begun, or after it has ended
        return 130
    except OSError as error:  # of the help of `run`, where Python does not buffer
        return written(unwritten(error))
