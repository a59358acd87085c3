"""``metrics``: the sum of what a service's processes count, for Prometheus."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from nano_graphrag_redis.exceptions import StorageConfigError
from nano_graphrag_redis.printable import visible
from nano_graphrag_redis.workers.merged_counters import merged

from .session import Session

Directory = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="The shared directory; overrides REDIS_METRICS_DIR."),
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for any.")]
Address = Annotated[str, typer.Option("--address", help="The address to listen on.")]
Once = Annotated[bool, typer.Option("--once", help="Print the metrics once, and exit.")]


def metrics(
    session: Session,
    directory: Directory = None,
    port: Port = 9400,
    address: Address = "127.0.0.1",
    once: Once = False,
) -> None:
    """Serve the combined metrics of a service's processes, for Prometheus to scrape.

    The processes write them to a shared directory: set REDIS_METRICS_DIR for them and for this.
    """
    directory = directory or session.metrics_dir
    if directory is None:
        raise StorageConfigError("name the directory of the counters: --dir, or REDIS_METRICS_DIR")
    if not directory.is_dir():
        raise StorageConfigError(
            f"{visible(directory)} is no directory: no process has written there yet"
        )
    if session.output.as_json:
        session.output.show(merged(directory), lambda: None)
        return
    try:
        from prometheus_client import generate_latest, start_http_server

        from nano_graphrag_redis.metrics.collector import directory_registry
    except ModuleNotFoundError as missing:
        raise StorageConfigError(
            f"{missing.name} is not installed: pip install prometheus-client"
        ) from missing
    registry = directory_registry(directory)
    if once:
        session.output.out.out(generate_latest(registry).decode(), end="", highlight=False)
        return
    try:
        server, _ = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise OSError(
            f"--address {visible(address)} and --port {port} cannot be listened on: "
            f"{error.strerror}"
        ) from error
    session.output.say(f"{_url(address, server.server_port)}, until Ctrl-C")
    threading.Event().wait()


def _url(address: str, port: int) -> str:
    """Where the metrics are.

    >>> _url("::1", 9400), _url("localhost", 9400)
    ('http://[::1]:9400/metrics', 'http://localhost:9400/metrics')
    """
    return f"http://{f'[{address}]' if ':' in address else address}:{port}/metrics"
