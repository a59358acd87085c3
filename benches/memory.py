"""How far a process grows: each peer and job in a fresh one, since a process never shrinks back.

As a program, `python -m benches.memory PEER JOB HOST PORT DIRECTORY`, it is that fresh process.
"""

import asyncio
import ctypes
import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benches import payloads
from benches.payloads import Table
from benches.peers import Peer, Storage, load
from benches.server import Server
from benches.workload import CHUNKS

MEBIBYTE = 1 << 20
ITEMS = 10_000
PROCESSES = 3  # for each job of each peer
PROC = Path("/proc/self")


@dataclass(frozen=True)
class Growth:
    """What one job added to a process at its peak."""

    peer: str
    job: str
    peak: int
    """Bytes of resident memory above what the process had before it opened the storage."""
    values: int
    """Bytes of that which are the answers themselves, as Python objects."""
    threads: int
    sockets: int


Job = Callable[[Storage, Table], Coroutine[Any, Any, object]]


async def _gets(storage: Storage, chunks: Table) -> object:
    return await asyncio.gather(*map(storage.get_by_id, _repeated(chunks)))


async def _get_by_ids(storage: Storage, chunks: Table) -> object:
    return await storage.get_by_ids(_repeated(chunks))


async def _upsert(storage: Storage, chunks: Table) -> object:
    values = list(chunks.values())
    table = {f"more-{number}": values[number % len(values)] for number in range(ITEMS)}
    await storage.upsert(table)
    await storage.index_done_callback()
    return None


def _repeated(chunks: Table) -> list[str]:
    return list(islice(cycle(chunks), ITEMS))


JOBS: dict[str, Job] = {
    f"get_by_id of {ITEMS:,} chunks at once": _gets,
    f"get_by_ids of {ITEMS:,} chunks": _get_by_ids,
    f"upsert of {ITEMS:,} chunks, save": _upsert,
}


def measurable() -> bool:
    """Whether this system tells a process its peak, and lets it start the peak anew."""
    return (PROC / "clear_refs").exists() and hasattr(ctypes.CDLL(None), "malloc_trim")


def measure_memory(server: Server, peers: list[Peer]) -> list[Growth]:
    """Run every job of every peer in processes of its own; the one with the median peak counts."""
    return [
        sorted((_in_fresh_process(server, peer, job) for _ in range(PROCESSES)), key=_peak)[
            PROCESSES // 2
        ]
        for job in JOBS
        for peer in peers
    ]


def _in_fresh_process(server: Server, peer: Peer, job: str) -> Growth:
    with TemporaryDirectory(prefix="bench-") as directory:
        # The files of the JSON backend as they are now, so that no process finds another's.
        shutil.copytree(server.directory, directory, dirs_exist_ok=True)
        command = [sys.executable, "-m", "benches.memory", peer.name, job]
        command += [server.host, str(server.port), directory]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Growth(**json.loads(run.stdout.splitlines()[-1]))


def _peak(growth: Growth) -> int:
    return growth.peak


async def _measure(peer: Peer, job: str, server: Server) -> Growth:
    chunks = payloads.build().text_chunks
    # What is free by now goes back to the system, or the job would grow into it unseen.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    (PROC / "clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    storage = await peer.open(server, CHUNKS)
    answers = await JOBS[job](storage, chunks)
    peak = _status("VmHWM") - before
    process = psutil.Process()
    sockets = [c for c in process.net_connections("tcp") if c.raddr and c.raddr.port == server.port]
    growth = Growth(
        peer.name, job, peak, deep_size(answers, set()), process.num_threads(), len(sockets)
    )
    await storage.close()
    return growth


def _status(field: str) -> int:
    """A field of the process's status, in bytes."""
    for line in (PROC / "status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise RuntimeError(f"/proc/self/status has no field {field}.")


def deep_size(value: object, seen: set[int]) -> int:
    """Bytes of a JSON value as Python holds it, what it shares with itself counted once."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    inner: list[object] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list):
        inner = value
    return sys.getsizeof(value) + sum(deep_size(item, seen) for item in inner)


def main() -> None:
    """Be the fresh process: print the growth as one line of JSON."""
    name, job, host, port, directory = sys.argv[1:]
    server = Server(host, int(port), 0, "", Path(directory))
    print(json.dumps(asdict(asyncio.run(_measure(load(name), job, server)))))


if __name__ == "__main__":
    main()
