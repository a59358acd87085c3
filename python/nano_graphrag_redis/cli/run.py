"""``run COMMAND``: starts an unmodified application and all its workers on Redis.

The command replaces this process, in an environment in which every Python registers the storage
when it imports the host; see ``autoregister``.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import nano_graphrag_redis
from nano_graphrag_redis.config import RedisConfig, kv_backend
from nano_graphrag_redis.config.sources import UNDER_RUN
from nano_graphrag_redis.exceptions import StorageConfigError, StorageError
from nano_graphrag_redis.printable import visible

_PROGRAM = "nano-graphrag-redis"

_HELP: Final = f"""\
usage: {_PROGRAM} run SCRIPT [ARGUMENT]...
       {_PROGRAM} run -m MODULE [ARGUMENT]...
       {_PROGRAM} run COMMAND [ARGUMENT]...

Start an unmodified application with the storage registered: a script or a module, as python starts
it, or a command, as the shell does (`run uvicorn app:app --workers 4`). The application replaces
this process. STORAGE_KV_BACKEND=redis selects Redis.

COMMAND is a path or a name. Names are looked up next to this Python first, then on PATH.

Every Python below it is covered: uvicorn and gunicorn workers, and forked or spawned processes.
Exceptions: a Python started with -I, -E or -S, or without its parent's environment, or without this
package.

PYTHONHASHSEED is set to 0 unless it is set: nano-graphrag orders ties by string hash, and workers
with different seeds would build different prompts and share no answers.

redis_single_flight is on below it unless you set it: workers that ask the LLM the same at once make
one call.
"""

AUTOREGISTER: Final = (
    Path(nano_graphrag_redis.__path__[0]).resolve() / "integrations" / "autoregister"
)
"""The directory whose ``sitecustomize`` every Python below ``run`` imports."""

_PYTHON_FILES: Final = {".py", ".pyw", ".pyc", ".pyz"}


def main(arguments: Sequence[str]) -> int:
    """Replaces this process with the application, and therefore does not return on success.

    Returns:
        0 after printing the help; 2 if the application could not be started.
    """
    if arguments[:1] in (["-h"], ["--help"]):
        print(_HELP, end="")
        return 0
    if not arguments:
        with suppress(OSError):
            print(_HELP, end="", file=sys.stderr)
        return 2
    # The application logs the same warnings of the same settings.
    logging.getLogger("nano_graphrag_redis").disabled = True
    try:
        command = _command(arguments)
        environ = _environment(os.environ)
        _say(_backend(environ))
        _become(command, environ)
    except (OSError, StorageError) as error:
        _say(error)
        return 2


def _say(what: object) -> None:
    """A line on stderr, if that can be written: a service manager may have closed it."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"{_PROGRAM}: {visible(what)}", file=sys.stderr, flush=True)


def _command(arguments: Sequence[str]) -> list[str]:
    """The program and its arguments: a script runs under this Python, a command by itself."""
    if arguments[0] == "--" and len(arguments) > 1:
        arguments = arguments[1:]
    name, *rest = arguments
    if name == "-" or (name in {"-m", "-c"} and rest):
        return [*_this_python(), *arguments]
    if name in {"-m", "-c"}:
        what = "a module" if name == "-m" else "code"
        raise StorageConfigError(f"{name} needs {what} after it")
    if name.startswith("-"):
        raise StorageConfigError(
            f"{name} is no option of run: Python's own go before it, as in "
            "python -u -m nano_graphrag_redis run app.py"
        )
    path = Path(name)
    if path.is_file():
        executable = path.suffix.lower() not in _PYTHON_FILES and os.access(path, os.X_OK)
        return [name, *rest] if executable else [*_this_python(), *arguments]
    found = _on_the_path(name)
    if found is not None:
        return [found, *rest]
    if name and path.is_dir():
        return [*_this_python(), *arguments]
    raise StorageConfigError(
        f"{name or repr(name)}: no such script, and no such command beside this Python or on the "
        "PATH"
    )


def _on_the_path(name: str) -> str | None:
    if os.path.dirname(name):
        return None
    places = [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(places))


def _this_python() -> list[str]:
    """This interpreter, with the options it was started with."""
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise StorageConfigError(
            "with -I, -E or -S Python reads no PYTHONPATH or no sitecustomize, through which the "
            "workers are registered: start run without these options"
        )
    # What comes before our own arguments is options, then `-m nano_graphrag_redis` or a path.
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:]) - 1]
    if options and options[-1].startswith("-") and options[-1].endswith(("m", "c")):
        options[-1] = options[-1][:-1]  # `-m`, or the end of `-um`
    return [sys.executable, *(option for option in options if option != "-")]


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the application and of every process it starts."""
    directory = str(AUTOREGISTER)
    if os.pathsep in directory:
        raise StorageConfigError(
            f"{directory} cannot be in PYTHONPATH, which {os.pathsep!r} divides: install the "
            "package in another directory"
        )
    others = inherited.get("PYTHONPATH")
    started_by_run = others is not None and others.split(os.pathsep)[0] == directory
    path = others if started_by_run else os.pathsep.join([directory, *([others] if others else [])])
    seed = inherited.get("PYTHONHASHSEED") or "0"
    ours = {"PYTHONPATH": path or directory, "PYTHONHASHSEED": seed, UNDER_RUN: "1"}
    return {**inherited, **ours}


def _backend(environ: Mapping[str, str]) -> str:
    """One line that says where values will be stored; raises if a setting is invalid."""
    backend = kv_backend(environ)
    if backend == "redis":
        config = RedisConfig.from_env(environ)
        workspace = f", workspace {config.redis_workspace}" if config.redis_workspace else ""
        return (
            f"STORAGE_KV_BACKEND=redis: storages on {config.redis_url}{workspace}, one LLM cache "
            f"for all workers (PYTHONHASHSEED={environ['PYTHONHASHSEED']}, "
            f"REDIS_SINGLE_FLIGHT={config.redis_single_flight})"
        )
    if environ.get("STORAGE_KV_BACKEND", "").strip():
        return "STORAGE_KV_BACKEND=json: each worker has JSON files and an LLM cache of its own"
    return (
        "STORAGE_KV_BACKEND is not set, so a GraphRAG that names no "
        "storage keeps its JSON files; set STORAGE_KV_BACKEND=redis"
    )


def _become(command: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Replaces this process with the application: same id, same files, same signals."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    # Python ignores these two for itself; ignored signals would stay ignored in any program.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(command[0], command, environ)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script that is executable and names no interpreter.
        command = [*_this_python(), *command]
        os.execve(command[0], command, environ)
