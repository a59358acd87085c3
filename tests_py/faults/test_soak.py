"""Everything at once, for long: nothing is lost, and nothing grows."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.proxy import Proxy
from support.scripts import python_path
from support.servers import RedisServer

from .rows import Row

MINUTES = float(os.environ.get("SOAK_MINUTES", "0"))
"""`make soak MINUTES=60`; without it, as long as the run of the matrix has time for."""

NOISE = 1 << 20
"""Bytes by which what is resident goes up and down, whoever looks."""


@pytest.mark.row(33)
@pytest.mark.timeout(int(MINUTES * 60) + 300)
def test_mixed_faults_lose_nothing_and_nothing_grows(row: Row) -> None:
    seconds = MINUTES * 60 or row.pick(quick=8, full=120)
    chance = random.Random(33)
    inflicted = 0
    # What is acknowledged has to outlive the server's own crashes.
    with RedisServer(appendonly="yes", appendfsync="always") as server, Proxy(server.port) as proxy:
        faults: list[Callable[[], object]] = [
            lambda: server.client().client_kill_filter(_type="normal", skipme=True),
            proxy.deafen,
            lambda: setattr(proxy, "cut_after", chance.randrange(20)),
            lambda: burst("cut_chance", 0.1),
            lambda: burst("one_byte", True),
            lambda: burst("delay", 0.01),
            lambda: stall(server),
            server.restart,
        ]

        def burst(what: str, value: float) -> None:
            before = getattr(proxy, what)
            setattr(proxy, what, value)
            time.sleep(0.3)
            setattr(proxy, what, before)

        script = Path(__file__).with_name("soaking.py")
        with subprocess.Popen(
            [sys.executable, script, proxy.url, str(seconds)],
            env={**os.environ, "PYTHONPATH": python_path(script.parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            until = time.monotonic() + seconds - 1
            while time.monotonic() < until and process.poll() is None:
                chance.choice(faults)()
                inflicted += 1
                time.sleep(chance.uniform(0.2, 1.0))
            assert process.stdout.readline() == "soaked\n"
            proxy.cut_after = None
            said = json.loads(process.communicate("go on\n")[0])
    row.saw("faults", inflicted)
    assert said["confirmed"] > said["operations"] / 2
    row.none("lost or wrong", len(said["wrong"]), of=said["operations"])
    growth = hourly(said["looks"])
    row.saw("growth", f"{growth['seen'] / 1024:.0f} KiB in the last two thirds of {seconds:.0f} s")
    if seconds >= 3600:
        row.at_most("growth", growth["hourly"] / (1 << 20), 1.0, "MiB/h")
    else:
        assert growth["seen"] < 4 * NOISE, growth
        row.named("an hour takes `make soak MINUTES=60`: a shorter run shows no loss of so little")


def stall(server: RedisServer) -> None:
    server.pause()
    time.sleep(0.4)
    server.resume()


def hourly(looks: list[tuple[float, float]]) -> dict[str, float]:
    """What was resident more in the last sixth than in the second, and what an hour of that is.

    The least of a sixth: what calls hold that are under way comes on top, several MiB of it.
    """
    sixth = max(1, len(looks) // 6)
    begin, end = looks[sixth : 2 * sixth], looks[-sixth:]
    seen = min(b for _, b in end) - min(b for _, b in begin)
    apart = statistics.median(t for t, _ in end) - statistics.median(t for t, _ in begin)
    return {"seen": seen, "hourly": seen / max(apart, 1e-9) * 3600}
