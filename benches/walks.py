"""What walks over a namespace as it grows: seconds and memory, with a million ids to ten.

Each operation is a process of its own, so that its memory is its own: what it grows by at its peak
above the interpreter with the package imported. `SCAN by a bare socket, its answers parsed by
hiredis, is what a walk over the keys takes at least.

Run: make walks WALKS="--ids 1000000 10000000"
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import hiredis
import psutil

from benches.server import Server, running_server
from nano_graphrag_redis import RedisKVStorage, migration

NAMESPACE = "llm_response_cache"
AT_ONCE = 50_000
VALUE = {"return": "Marley was dead: to begin with.", "model": "gpt-4o"}

Walk = Callable[[RedisKVStorage], Awaitable[object]]

WALKS: dict[str, Walk] = {
    "all_keys": RedisKVStorage.all_keys,
    "get_stats": RedisKVStorage.get_stats,
    "drop": RedisKVStorage.drop,
}
EXPORT = "export"
STEPS = ("all_keys", "get_stats", EXPORT, "drop")


async def _fill(storage: RedisKVStorage, ids: int) -> None:
    for start in range(0, ids, AT_ONCE):
        await storage.upsert({_id(n): VALUE for n in range(start, min(start + AT_ONCE, ids))})
    await storage.index_done_callback()


def _id(number: int) -> str:
    return f"hash-{number:032x}"


async def _step(step: str, url: str, directory: Path) -> None:
    """Does one thing and prints seconds and MiB."""
    before = psutil.Process().memory_info().rss
    storage = RedisKVStorage(NAMESPACE, {"redis_url": url})
    begun = time.perf_counter()
    if step in WALKS:
        await WALKS[step](storage)
    elif step == EXPORT:
        await asyncio.to_thread(migration.export, directory, {"redis_url": url})
    else:
        await _fill(storage, int(step))
    seconds = time.perf_counter() - begun
    print(seconds, (_peak() - before) / 2**20)
    await storage.close()


def _peak() -> int:
    """The most bytes this process has held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM")


def _run(step: str, server: Server, directory: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benches.walks", "--step", step, server.url, str(directory)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, memory = map(float, said.split())
    return seconds, memory


def _scan(server: Server) -> float:
    """Seconds of a bare socket that walks over all keys, its answers parsed by hiredis."""
    begun = time.perf_counter()
    with closing(socket.create_connection((server.host, server.port))) as bare:
        reader, cursor = hiredis.Reader(), b"0"
        while True:
            bare.sendall(b"SCAN %b COUNT 1000\r\n" % cursor)
            while (page := reader.gets()) is False:
                reader.feed(bare.recv(1 << 16))
            cursor, _ = page
            if cursor == b"0":
                return time.perf_counter() - begun


def main() -> None:
    """Measure each number of ids, or take one step."""
    parser = argparse.ArgumentParser(prog="python -m benches.walks", description=__doc__)
    parser.add_argument("--ids", nargs="+", type=int, default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, url, directory = options.step
        asyncio.run(_step(step, url, Path(directory)))
        return
    print("| ids | operation | seconds | µs an id | MiB at its peak |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for ids in options.ids:
        with (
            TemporaryDirectory(prefix="walks-", dir=os.environ.get("TMPDIR")) as directory,
            running_server() as server,
        ):
            _run(str(ids), server, Path(directory))
            _print(ids, "SCAN, bare socket", _scan(server), None)
            for step in STEPS:
                _print(ids, step, *_run(step, server, Path(directory)))


def _print(ids: int, step: str, seconds: float, memory: float | None) -> None:
    said = "" if memory is None else f"{memory:,.0f}"
    print(f"| {ids:,} | {step} | {seconds:.1f} | {seconds / ids * 1e6:.2f} | {said} |", flush=True)


if __name__ == "__main__":
    main()
