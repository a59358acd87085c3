"""The command ``nano-graphrag-redis``: one module for each of its commands.

``app`` puts them together, ``session`` is what they share, ``output`` the one place that says
things, ``exits`` the exit codes. ``run`` stays apart: it imports none of what the others need.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import run

__all__ = ["main"]

PROGRAM = "nano-graphrag-redis"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Those after the program's name; the process's own when None.

    Returns:
        The exit code; see ``exits.Exit``.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments[:1] == ["run"]:
            return run.main(arguments[1:])
        from . import app

        return app.main(arguments)
    except KeyboardInterrupt:  # before a command has begun, or after it has ended
        return 130
