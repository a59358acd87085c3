"""A large cache to Redis and back, beside what the file and the socket alone take.

The limit of `migrate` is to read the file, and then to send as many SETs of its values' sizes; the
limit of `export` to send as many GETs, and then to write as many bytes and have them on the disk.
Requests are prepared beforehand and answers are counted and thrown away: nothing is parsed. Each
step is a process of its own; the limits have a server, and then our steps have another.

Run: make migration-speed MIGRATION="--megabytes 2000"
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benches.payloads import BOOK
from benches.server import Server, running_server

NAMESPACE = "llm_response_cache"
BLOCK = 1 << 20
IN_FLIGHT = 1_000
"""Requests of the bare socket between two looks at the answers, about 2 MB of them."""
SHORTEST, LONGEST = 500, 4_000  # characters of an answer


def write_file(directory: Path, megabytes: int) -> list[int]:
    """A cache of that size as JsonKVStorage writes it; the bytes of each value, without spaces."""
    chance, book = random.Random(7), BOOK.read_text(encoding="utf-8")
    sizes: list[int] = []
    with _file(directory).open("w", encoding="utf-8") as file:
        file.write("{")
        while file.tell() < megabytes * 1_000_000:
            start = chance.randrange(len(book) - LONGEST)
            text = book[start : start + chance.randrange(SHORTEST, LONGEST)]
            value = {"return": text, "model": "gpt-4o"}
            entry = json.dumps({_id(len(sizes)): value}, indent=2, ensure_ascii=False)
            file.write(("," if sizes else "") + entry[1:-2])
            compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            sizes.append(len(compact.encode()))
        file.write("\n}")
    return sizes


def _file(directory: Path) -> Path:
    return directory / f"kv_store_{NAMESPACE}.json"


def _id(number: int) -> str:
    return f"hash-{number:032x}"


def migrate(server: Server, directory: Path) -> float:
    """Seconds that this library takes."""
    from nano_graphrag_redis import migration

    began = time.perf_counter()
    migration.migrate(migration.plan(directory, {"redis_url": server.url}, ttl=0))
    return time.perf_counter() - began


def verify(server: Server, directory: Path) -> float:
    """Seconds that this library takes."""
    from nano_graphrag_redis import migration

    began = time.perf_counter()
    if not migration.verify(directory, {"redis_url": server.url}).ok:
        raise RuntimeError("the server has something else than the file")
    return time.perf_counter() - began


def export(server: Server, directory: Path) -> float:
    """Seconds that this library takes; the file is the same again."""
    from nano_graphrag_redis import migration

    back = directory / "back"
    back.mkdir(exist_ok=True)
    began = time.perf_counter()
    migration.export(back, {"redis_url": server.url})
    took = time.perf_counter() - began
    subprocess.run(["cmp", _file(directory), _file(back)], check=True)
    _file(back).unlink()
    return took


def limit_in(server: Server, directory: Path) -> float:
    """Seconds of reading the file, and of sending as many values of the same sizes."""
    began = time.perf_counter()
    with _file(directory).open("rb", buffering=0) as file:
        while file.read(BLOCK):
            pass
    took = time.perf_counter() - began
    text = BOOK.read_bytes()
    requests = (
        b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, size, text[:size])
        for key, size in _bare_keys(directory)
    )
    answers = (len(b"+OK\r\n") for _ in _bare_keys(directory))
    return took + _exchange(server, requests, answers)


def limit_out(server: Server, directory: Path) -> float:
    """Seconds of asking for as many values, and of writing a file of the same size."""
    requests = (
        b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key, _ in _bare_keys(directory)
    )
    answers = (len(b"$%d\r\n\r\n" % size) + size for _, size in _bare_keys(directory))
    took = _exchange(server, requests, answers)
    block, left, path = bytes(BLOCK), _file(directory).stat().st_size, directory / "limit"
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        while left > 0:
            left -= file.write(block[:left])
        os.fsync(file.fileno())
    took += time.perf_counter() - began
    path.unlink()
    return took


def _bare_keys(directory: Path) -> Iterator[tuple[bytes, int]]:
    """The keys of the bare socket, and the bytes of their values."""
    for number, size in enumerate(json.loads((directory / "sizes").read_text())):
        yield b"bare:%032x" % number, size


def _exchange(server: Server, requests: Iterator[bytes], answers: Iterator[int]) -> float:
    """Seconds of sending them all and receiving their answers; to prepare them does not count."""
    took, buffer = 0.0, bytearray(BLOCK)
    with closing(socket.create_connection((server.host, server.port))) as bare:
        while wave := [each for _, each in zip(range(IN_FLIGHT), requests, strict=False)]:
            sent = b"".join(wave)
            size = sum(next(answers) for _ in wave)
            began = time.perf_counter()
            bare.sendall(sent)
            while size:
                received = bare.recv_into(buffer, min(size, BLOCK))
                if not received:
                    raise ConnectionError("the server closed the bare socket")
                size -= received
            took += time.perf_counter() - began
    return took


STEPS: dict[str, tuple[Callable[[Server, Path], float], str]] = {
    "limit-in": (limit_in, "read the file, send its values"),
    "migrate": (migrate, "migrate"),
    "verify": (verify, "verify"),
    "limit-out": (limit_out, "ask for the values, write the file"),
    "export": (export, "export"),
}
LIMITS = {"migrate": "limit-in", "verify": "limit-in", "export": "limit-out"}


def main() -> None:
    """Measure all steps, or be one of them."""
    parser = argparse.ArgumentParser(prog="python -m benches.migration", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, host, port, directory = options.step
        server = Server(host, int(port), 0, "", Path(directory))
        print(STEPS[step][0](server, Path(directory)))
        return
    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    with TemporaryDirectory(prefix="migration-", dir=os.environ.get("TMPDIR")) as home:
        directory = Path(home)
        sizes = write_file(directory, options.megabytes)
        (directory / "sizes").write_text(json.dumps(sizes))
        print(f"{len(sizes):,} values, {_file(directory).stat().st_size / 1e6:,.0f} MB", flush=True)
        for _ in range(options.rounds):
            for steps in (set(LIMITS.values()), set(LIMITS)):
                with running_server() as server:
                    for step in filter(steps.__contains__, STEPS):
                        seconds[step].append(_run(step, server, directory))
                        print(f"  {step} {seconds[step][-1]:.2f} s", flush=True)
    _print(seconds)


def _run(step: str, server: Server, directory: Path) -> float:
    command = [sys.executable, "-m", "benches.migration", "--step", step]
    command += [server.host, str(server.port), str(directory)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _print(seconds: dict[str, list[float]]) -> None:
    print("\n| step | seconds | its limit, seconds | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for step, limit in LIMITS.items():
        ratios = [own / least for own, least in zip(seconds[step], seconds[limit], strict=True)]
        print(
            f"| {STEPS[step][1]} | {median(seconds[step]):.2f} | {median(seconds[limit]):.2f} "
            f"| {median(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
