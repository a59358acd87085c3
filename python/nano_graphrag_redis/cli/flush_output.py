"""What is left of the output is written at the end; the exit code where it cannot be."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

PROGRAM = "nano-graphrag-redis"


def written(code: int) -> int:
    """The exit code, once all that was said is written: 4 if it cannot be, on a full disk say.

    Python itself would end with 120, and with words of its own.
    """
    lost = _flushed(sys.stdout)
    if lost is not None and code == 0:
        code = unwritten(lost)
    _flushed(sys.stderr)
    return code


def unwritten(lost: OSError) -> int:
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
