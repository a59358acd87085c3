"""The command ``nano-graphrag-redis``: one module for each of its commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nano_graphrag_redis.exceptions import StorageError

from . import run

__all__ = ["main"]

PROGRAM = "nano-graphrag-redis"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Those after the program's name; the process's own when None.

    Returns:
        The exit code: 0, or 2 when the command could not do what it was asked to.
    """
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Redis storage for nano-graphrag.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        command = options.prepare(options)
    except (OSError, StorageError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    command()
    return 0
