"""A real Prometheus for the tests, owned by a guard, and processes for it to scrape."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from support.servers import RedisServer

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 60.0
"""Seconds in which it starts, and in which it has scraped what a test asks for."""

_LISTENS = re.compile(r'msg="?Listening on"? address=(\S+)')


class Prometheus:
    """Scrapes each target every second, from a directory of its own, on a port of its own choice.

    Args:
        *targets: What to scrape, as ``HOST:PORT``.
        rules: Files of alerts and recording rules.

    Example:
        with Prometheus("127.0.0.1:9400") as prometheus:
            prometheus.series("redis_operations_total")
    """

    def __init__(self, *targets: str, rules: Iterable[Path] = ()) -> None:
        program = shutil.which("prometheus")
        assert program, "apt-get install prometheus"
        self._home = tempfile.TemporaryDirectory(prefix="prometheus-")
        home = Path(self._home.name)
        self._log = home / "log"
        configuration = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [str(path.resolve()) for path in rules],
            "scrape_configs": [
                {"job_name": "service", "static_configs": [{"targets": list(targets)}]}
            ],
        }
        # JSON is YAML.
        (home / "prometheus.yml").write_text(json.dumps(configuration))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={home / 'prometheus.yml'}",
                    f"--storage.tsdb.path={home / 'data'}",
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            self.url = f"http://{self._address()}"
        except BaseException:
            self.close()
            raise

    def series(self, query: str) -> list[Any]:
        """The series of a query, as soon as there are any; a failure if there are none in time."""
        deadline = time.monotonic() + PATIENCE
        while not (series := self._asked(query)):
            assert time.monotonic() < deadline, f"{query} gives no series"
            time.sleep(0.1)
        return series

    def close(self) -> None:
        """Ends it and removes its directory."""
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _address(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while (listens := _LISTENS.search(log := self._log.read_text(errors="replace"))) is None:
            assert self._process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.02)
        return listens[1]

    def _asked(self, query: str) -> list[Any]:
        """The series now; none while it starts."""
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                series: list[Any] = json.load(answer)["data"]["result"]
                return series
        except OSError:
            return []


@contextmanager
def scraping(script: str, *, rules: Iterable[Path] = ()) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a process which uses storages.

    Args:
        script: Is given the URL of a server; prints the port where it tells its metrics.
        rules: Files of alerts and recording rules.
    """
    with (
        RedisServer() as server,
        subprocess.Popen(
            [sys.executable, "-c", script, server.url], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with Prometheus(f"127.0.0.1:{port}", rules=rules) as prometheus:
                yield prometheus
        finally:
            process.kill()
