"""Programs in processes forked from an interpreter that has imported what they import.

The imports of the command or of a host take many times as long as what most tests have it do. Each
process has its own environment, directory and standard files, and ends as an interpreter ends. What
only the start of an interpreter shows, such as a variable of Python's own, needs `subprocess`.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

READY = b"1"


class Started:
    """A program that runs, and what it is told and says.

    Attributes:
        stdin: What it reads.
        stdout: What it has printed.
    """

    def __init__(self, told: socket.socket, stdin: IO[str], stdout: IO[str]) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self._told = told
        self._answers = told.makefile()
        self._pid = int(self._answers.readline())
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal, once it has ended.

        Raises:
            TimeoutError: It has not in so many seconds.
        """
        if self._code is None:
            self._told.settimeout(timeout)
            self._code = os.waitstatus_to_exitcode(int(self._answers.readline()))
        return self._code

    def end(self) -> None:
        """Kills it, if it runs, and closes what led to it."""
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            self.wait()
        with suppress(BrokenPipeError):  # something is left to write
            self.stdin.close()
        self.stdout.close()
        self._answers.close()
        self._told.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


class Preloaded:
    """Runs programs as ``python`` does, while the context lasts; from any thread.

    Args:
        modules: What they import.
        path: The directories of ``PYTHONPATH``, before those that it has.
        options: Of the interpreter, such as ``-W error``.
        environ: Variables that only the start of an interpreter reads.
    """

    def __init__(
        self,
        *modules: str,
        path: Sequence[Path] = (),
        options: Sequence[str] = (),
        **environ: str,
    ) -> None:
        paths = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environ = {**environ, "PYTHONPATH": os.pathsep.join(paths)}
        self._modules = modules
        self._options = options
        self._home = tempfile.TemporaryDirectory(prefix="preloaded")
        self._address = str(Path(self._home.name, "socket"))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, *self._options, __file__, self._address, *self._modules],
            # A process with threads may not fork.
            env=os.environ | self._environ | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.read(1) == READY
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate()
        self._home.cleanup()

    def run(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        input: str = "",
        timeout: float = 150.0,
    ) -> subprocess.CompletedProcess[str]:
        """Runs one to its end.

        Args:
            arguments: Those after ``python``: a script, ``-m`` and a module or ``-c`` and its text,
                and its own.
            env: All of its environment.
            cwd: Where it runs; as the caller, unless it is given.
            input: What its standard input has.
            timeout: Seconds until it is killed.

        Raises:
            TimeoutError: It was killed.
        """
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as told,
            tempfile.TemporaryFile() as stdin,
            tempfile.TemporaryFile() as stdout,
            tempfile.TemporaryFile() as stderr,
        ):
            stdin.write(input.encode())
            stdin.seek(0)
            told.settimeout(timeout)
            files = [stdin.fileno(), stdout.fileno(), stderr.fileno()]
            self._ask(told, files, arguments, env, cwd)
            answers = told.makefile()
            pid = int(answers.readline())
            try:
                status = int(answers.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
            said = []
            for file in (stdout, stderr):
                file.seek(0)
                said.append(file.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(
            list(arguments), os.waitstatus_to_exitcode(status), *said
        )

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        stderr: IO[Any],
        cwd: Path | None = None,
    ) -> Started:
        """Starts one, for whoever has something to say to it, or to do while it runs.

        Args:
            arguments: Those after ``python``, as for `run`.
            env: All of its environment.
            stderr: The file that it writes its errors to.
            cwd: Where it runs; as the caller, unless it is given.
        """
        told = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (its_stdin, stdin), (stdout, its_stdout) = os.pipe(), os.pipe()
        try:
            self._ask(told, [its_stdin, its_stdout, stderr.fileno()], arguments, env, cwd)
        finally:
            os.close(its_stdin)
            os.close(its_stdout)
        return Started(told, os.fdopen(stdin, "w"), os.fdopen(stdout))

    def _ask(
        self,
        told: socket.socket,
        files: Sequence[int],
        arguments: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None,
    ) -> None:
        request = json.dumps(
            {"arguments": arguments, "env": dict(env), "cwd": str(cwd or Path.cwd())}
        ).encode()
        told.connect(self._address)
        socket.send_fds(told, [b"%d\n" % len(request)], list(files))
        told.sendall(request)


def _reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _serve(address: str) -> list[str]:
    """Forks for each request; returns in the process that is to run the program.

    Returns:
        The arguments of `python`.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    os.write(1, READY)
    # Not ignored: the times of processes that nobody waits for would count for nothing.
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        told, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _begin(told)
        told.close()


def _begin(told: socket.socket) -> list[str]:
    head, files, _, _ = socket.recv_fds(told, 64, 3)
    size, _, request = head.partition(b"\n")
    while len(request) < int(size):
        request += told.recv(65536)
    asked: dict[str, Any] = json.loads(request)
    if pid := os.fork():
        told.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        with suppress(BrokenPipeError):  # who asked did not wait for it
            told.sendall(b"%d\n" % status)
        os._exit(0)
    told.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.path[0] = asked["cwd"]
    return [str(each) for each in asked["arguments"]]


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    program, *sys.argv[1:] = _serve(sys.argv[1])
    if program == "-m":
        runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
    elif program == "-c":
        sys.argv[0], text = "-c", sys.argv.pop(1)
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(text, "<string>", "exec"), main.__dict__)
    else:
        sys.argv[0], sys.path[0] = program, str(Path(program).resolve().parent)
        runpy.run_path(program, run_name="__main__")
