"""What the run ran on, and how much of it belonged to somebody else meanwhile."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import psutil

from benches.server import Server

OURS = "nano-graphrag-redis"
PACKAGES = (
    OURS, "redis", "hiredis", "orjson", "valkey-glide", "valkey-glide-sync", "nano-graphrag",
)  # fmt: skip


@dataclass(frozen=True)
class Load:
    """CPU seconds since a moment: of the whole machine, and of the run's own processes."""

    busy: float
    stolen: float
    total: float
    own: float

    @classmethod
    def now(cls, server: Server) -> "Load":
        """Counters to be subtracted from later ones."""
        times = psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
        mine, its = psutil.Process().cpu_times(), psutil.Process(server.pid).cpu_times()
        return cls(
            busy=total - times.idle - getattr(times, "iowait", 0),
            stolen=getattr(times, "steal", 0),
            total=total,
            own=mine.user + mine.system + mine.children_user + mine.children_system
            + its.user + its.system,
        )  # fmt: skip

    def since(self, start: "Load") -> str:
        """What others took between the two moments, as a sentence."""
        span = self.total - start.total or 1.0
        stolen = (self.stolen - start.stolen) / span
        others = (self.busy - start.busy - (self.own - start.own)) / span - stolen
        return (
            f"Other programs took {max(others, 0):.0%} of the machine's processor time during the "
            f"run, and the hypervisor withheld {stolen:.0%}."
        )


def describe(server: Server, loop: str) -> dict[str, str]:
    """The machine and the software, as rows of a table."""
    gibibytes = psutil.virtual_memory().total / (1 << 30)
    installed = [f"{name} {found}" for name in PACKAGES if (found := _version(name))]
    return {
        "Date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "Command": f"`{' '.join(['python -m benches', *sys.argv[1:]])}`",
        "Commit": _commit(),
        "Wheel": _wheel(),
        "Processor": f"{_processor()}, {os.cpu_count()} cores, {gibibytes:.0f} GiB",
        "System": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {loop}",
        "Server": f"{server.version}, loopback TCP, nothing kept on disk, on the same machine",
        "Packages": ", ".join(installed),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """What `git describe --always --dirty` says of the sources beside this file."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        run = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "of no repository"
    return run.stdout.strip()


def _wheel() -> str:
    """The file this library was installed from, whose name says its kind."""
    try:
        origin = distribution(OURS).read_text("direct_url.json")
    except PackageNotFoundError:
        return "none"
    return Path(json.loads(origin)["url"]).name if origin else "of a registry"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
