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
from typing import Any

from support.guard import Guard
from support.servers import RedisServer

PATIENCE = 60.0
"""Seconds in which it starts, and in which it has scraped what a test asks for."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])\b")
_HOLD = re.compile(r"^( *(?:for|keep_firing_for): )(\d+)([smhd])$", re.MULTILINE)

_LISTENS = re.compile(r'msg="?Listening on"? address=(\S+)')


def shorter(rules: str, factor: int) -> str:
    """The text of a file of rules, with each of its durations divided by a factor.

    These are the ranges (``[5m]``), the offsets (``offset 1d``) and how long an alert has to hold
    (``for: 2m``). All else, the thresholds too, is as it was: with scrapes that are as much more
    frequent, a rule sees in a minute what it sees in an hour in a deployment.
    """

    def divided(number: str, unit: str) -> str:
        return f"{int(number) * _SECONDS[unit] * 1000 // factor}ms"

    ranges = _DURATION.sub(lambda m: divided(m[1] or m[3], m[2] or m[4]), rules)
    return _HOLD.sub(lambda m: m[1] + divided(m[2], m[3]), ranges)


class Prometheus(Guard):
    """Scrapes each target, from a directory of its own, on a port of its own choice.

    Args:
        *targets: What to scrape, as ``HOST:PORT``.
        rules: Files of alerts and recording rules.
        job: What the targets are called in the label of that name.
        interval: Seconds between two scrapes of a target, and two evaluations of the rules.
        shortened: By how much every duration in the rules is divided; see ``shorter``.

    Example:
        with Prometheus("127.0.0.1:9400") as prometheus:
            prometheus.series("nano_graphrag_redis_operations_total")
    """

    def __init__(
        self,
        *targets: str,
        rules: Iterable[Path] = (),
        job: str = "service",
        interval: float = 1.0,
        shortened: int = 1,
    ) -> None:
        program = shutil.which("prometheus")
        assert program, "apt-get install prometheus"
        self._home = tempfile.TemporaryDirectory(prefix="prometheus-")
        home = Path(self._home.name)
        self._log = home / "log"
        every = f"{interval * 1000:.0f}ms"
        rule_files = []
        for path in rules:
            rule_files.append(str(home / path.name))
            (home / path.name).write_text(shorter(path.read_text(encoding="utf-8"), shortened))
        configuration = {
            "global": {
                "scrape_interval": every,
                "scrape_timeout": every,
                "evaluation_interval": every,
            },
            "rule_files": rule_files,
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(targets)}]}],
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

    def start(self) -> None:
        """Returns when it listens."""
        self.url = f"http://{self._address()}"

    def series(self, query: str) -> list[Any]:
        """The series of a query, as soon as there are any; a failure if there are none in time."""
        deadline = time.monotonic() + PATIENCE
        while not (series := self.series_now(query)):
            assert time.monotonic() < deadline, f"{query} gives no series"
            time.sleep(0.1)
        return series

    def close(self) -> None:
        """Ends it and removes its directory."""
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def _address(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while (listens := _LISTENS.search(log := self._log.read_text(errors="replace"))) is None:
            assert self._process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.02)
        return listens[1]

    def series_now(self, query: str) -> list[Any]:
        """The series of a query at this moment; none while it starts."""
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
