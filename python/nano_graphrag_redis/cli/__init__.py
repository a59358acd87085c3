"""The command ``nano-graphrag-redis``: one module for each of its commands.

``app`` puts them together, ``session`` is what they share, ``output`` the one place that says
things, ``exits`` the exit codes. ``run`` stays apart: it imports none of what the others need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

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
        # What they import takes a while, in which Ctrl-C may come.
        if arguments[:1] == ["run"]:
            from . import run

            return _written(run.main(arguments[1:]))
        from . import app

        return _written(app.main(arguments))
    except KeyboardInterrupt:  # before a command has begun, or after it has ended
        return 130
    except OSError as error:  # of the help of `run`, where Python does not buffer
        return _written(_unwritten(error))


def _written(code: int) -> int:
    """The exit code, once all that was said is written: 4 if it cannot be, on a full disk say.

    Python itself would end with 120, and with words of its own.
    """
    lost = _flushed(sys.stdout)
    if lost is not None and code == 0:
        code = _unwritten(lost)
    _flushed(sys.stderr)
    return code


def _unwritten(lost: OSError) -> int:
    """Says why the output could not be written; gives the exit code."""
    with suppress(OSError):
        print(f"{PROGRAM}: {lost}", file=sys.stderr)
    return 141 if isinstance(lost, BrokenPipeError) else 4


def _flushed(stream: TextIO | None) -> OSError | None:
    """Writes what is left in a stream; why it cannot be written, if so, and then it is dropped."""
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        # Python tries once more at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
