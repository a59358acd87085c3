"""``run app.py``: an application on Redis, its source unchanged."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType

from nano_graphrag_redis.config import kv_backend
from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.hosts import register

_PROGRAM = "nano-graphrag-redis"

_DESCRIPTION = """\
Register the storage with nano-graphrag, then run a script as python would: with its arguments, as
__main__, with its own exit code and tracebacks. STORAGE_KV_BACKEND=redis selects Redis.

Processes that the script forks are covered. Those that it spawns anew (multiprocessing's "spawn",
uvicorn's workers) start without this command: call nano_graphrag_redis.register() in the script.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs a script.

    Returns:
        0, or 2 when the script could not be started. Whatever the script raises goes on.
    """
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} run",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        run = _prepare(options)
    except (OSError, StorageError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 2
    run()
    return 0


def _prepare(options: argparse.Namespace) -> Callable[[], None]:
    """Does what may fail for a reason of ours, and returns the run of the script."""
    with io.open_code(os.path.abspath(options.script)) as file:
        source = file.read()
    kv_backend()  # a wrong name is reported here rather than in the middle of the script
    if not os.environ.get("STORAGE_KV_BACKEND"):
        print(
            f"{_PROGRAM}: STORAGE_KV_BACKEND is not set, so a GraphRAG that names no "
            "storage keeps its JSON files; set STORAGE_KV_BACKEND=redis",
            file=sys.stderr,
        )
    register()
    return lambda: _run(source, options.script, options.arguments)


def _run(source: bytes, script: str, arguments: list[str]) -> None:
    path = os.path.abspath(script)
    main = ModuleType("__main__")
    vars(main).update(
        __file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path), __spec__=None
    )
    # It stays after the script's end, for the threads and the exit handlers that the script leaves.
    sys.modules["__main__"] = main
    sys.argv[:] = [script, *arguments]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(path)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_without_our_frames
    exec(compile(source, path, "exec"), vars(main))


def _show_without_our_frames(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Shows a traceback that starts in the script, as it does without this command."""
    ours = traceback
    while ours is not None and ours.tb_frame.f_code is not _run.__code__:
        ours = ours.tb_next
    if ours is not None:
        error = error.with_traceback(ours.tb_next)  # it shows the error's own, not its argument
    sys.__excepthook__(kind, error, error.__traceback__)
