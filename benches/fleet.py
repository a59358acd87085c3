"""Several worker processes over one server: calls a second, waiting times, processor time a call.

Each worker has a client of its own and 16 callers, each of them one call after another: nine reads
of cached answers to one write. First as fast as they can, then all clients at equal loads, which
are parts of what the fastest of the others can do: waiting times compare only under equal load.
There latencies count from the moment a call was due, so that a client that falls behind shows it.

The clients without a near cache take turns, and after them those with one: the server tells these
of every write, also while another client is measured.

Client, server and this program share the machine's cores. Where workers outnumber them, calls a
second say little, and processor time a call says how far a larger machine would get.

Run: make fleet FLEET="--workers 1 2 4 8"
As a program with `--worker`, it is one of the workers.
"""

import argparse
import asyncio
import json
import math
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate, product
from pathlib import Path
from random import Random
from statistics import median
from typing import IO, Any

import psutil

from benches.measure import in_turn
from benches.payloads import BOOK
from benches.peers import OURS, NearPeer, Peer, Storage, load
from benches.peers.ours import Ours
from benches.server import Server, running_server
from benches.stage import require_hiredis
from benches.workload import ANSWERS

IDS = 10_000
VALUE = 2_000  # characters
CALLERS = 16
READS = 0.9
SECONDS, ROUNDS = 2.0, 5
ZIPF = 0.99
"""The exponent that YCSB takes."""
NEAR = "-near"
SINGLE_FLIGHT = "-single-flight"
CLIENTS = (OURS, "straightforward-64", "hand-tuned-64", "glide", OURS + SINGLE_FLIGHT,
           OURS + NEAR, "glide" + NEAR)  # fmt: skip
LOADS = (0.25, 0.5, 0.9)
"""Parts of the calls a second of the fastest of the other clients."""
_TICKS_A_DOUBLING = 32
"""Latencies are counted in buckets 2 % wide."""


@dataclass(frozen=True)
class Order:
    """What the workers do in one round; `pace` is calls a second of each worker, 0 for no limit."""

    seconds: float
    zipf: bool
    pace: float
    seed: int


@dataclass(frozen=True)
class Report:
    """What one worker did in a round: its calls, its processor seconds, its latencies."""

    calls: int
    seconds: float
    processor: float
    latencies: dict[int, int]
    """By bucket."""


@dataclass(frozen=True)
class Round:
    """What all workers of one client did in a round."""

    reports: list[Report]
    server: float
    """Processor seconds of the server."""

    @property
    def calls(self) -> int:
        return sum(report.calls for report in self.reports)

    @property
    def throughput(self) -> float:
        """Calls a second, all workers together."""
        return sum(report.calls / report.seconds for report in self.reports)

    def percentile(self, percent: float) -> float:
        """Milliseconds within which so many of a hundred calls were answered."""
        latencies: Counter[int] = Counter()
        for report in self.reports:
            latencies.update(report.latencies)
        left = sum(latencies.values()) * percent / 100
        for bucket in sorted(latencies):
            left -= latencies[bucket]
            if left <= 0:
                return math.pow(2.0, bucket / _TICKS_A_DOUBLING) / 1e3
        raise ValueError("no call was made")

    def processor(self) -> tuple[float, float]:
        """Microseconds of processor time a call: of the workers, and of the server."""
        mine = sum(report.processor for report in self.reports)
        return mine / self.calls * 1e6, self.server / self.calls * 1e6


class Worker:
    """Another process, which does as it is told by a line of JSON, and answers with one."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: IO[str] = process.stdin
        self._stdout: IO[str] = process.stdout

    def tell(self, order: Order) -> None:
        self._stdin.write(json.dumps(asdict(order)) + "\n")
        self._stdin.flush()

    def answer(self) -> Any:
        """Its next line; the first one says that it is ready."""
        return json.loads(self._stdout.readline())


@contextmanager
def running_workers(
    client: str, number: int, server: Server, *, paced: bool
) -> Iterator[list[Worker]]:
    """Processes of one client, which are ready, and end with the block."""
    command = [sys.executable, "-m", "benches.fleet", "--worker", client]
    command += [server.host, str(server.port), str(server.directory), "paced" if paced else ""]
    with ExitStack() as stack:
        workers = []
        for _ in range(number):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)  # closes its standard input, at which it ends
            workers.append(Worker(process))
        for worker in workers:
            worker.answer()
        yield workers


def run_round(workers: list[Worker], server: Server, order: Order) -> Round:
    """One round of all workers of a client at once."""
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    for number, worker in enumerate(workers):
        worker.tell(Order(order.seconds, order.zipf, order.pace, order.seed * 100 + number))
    reports = [worker.answer() for worker in workers]
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return Round([_report(each) for each in reports], spent)


def _report(told: dict[str, Any]) -> Report:
    latencies = {int(bucket): count for bucket, count in told.pop("latencies").items()}
    return Report(latencies=latencies, **told)


def measure(
    clients: list[str], number: int, server: Server, options: argparse.Namespace, *, zipf: bool
) -> None:
    """All loads for one number of workers, each a table."""
    title = f"{number} workers, {'Zipf' if zipf else 'uniform'} ids"
    with running_fleets(clients, number, server, paced=False) as fleets:
        fast = _rounds(fleets, server, options, Order(options.seconds, zipf, 0.0, 0))
    _print(f"{title}, as fast as they can", fast)
    others = [client for client in clients if not client.startswith(OURS)]
    limit = max(median(each.throughput for each in fast[client]) for client in others or clients)
    with running_fleets(clients, number, server, paced=True) as fleets:
        for seed, load in enumerate(options.loads, 1):
            order = Order(options.seconds, zipf, limit * load / number, seed)
            paced = _rounds(fleets, server, options, order)
            _print(f"{title}, all at {limit * load:,.0f} calls a second ({load:g})", paced)


@contextmanager
def running_fleets(
    clients: list[str], number: int, server: Server, *, paced: bool
) -> Iterator[dict[str, list[Worker]]]:
    """The workers of several clients."""
    with ExitStack() as stack:
        yield {
            client: stack.enter_context(running_workers(client, number, server, paced=paced))
            for client in clients
        }


def _rounds(
    fleets: dict[str, list[Worker]], server: Server, options: argparse.Namespace, order: Order
) -> dict[str, list[Round]]:
    """The first round warms up and is dropped."""
    rounds: dict[str, list[Round]] = {client: [] for client in fleets}
    for number in range(options.rounds + 1):
        for client in in_turn(fleets, number):
            seed = order.seed * 1_000 + number
            done = run_round(
                fleets[client], server, Order(order.seconds, order.zipf, order.pace, seed)
            )
            if number:
                rounds[client].append(done)
    return rounds


def _print(title: str, rounds: dict[str, list[Round]]) -> None:
    print(f"\n### {title}\n")
    print("| client | calls a second | p50 ms | p99 ms | worker µs a call | server µs a call |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for client, those in rounds.items():
        worker, server = zip(*(each.processor() for each in those), strict=True)
        print(
            f"| {client} | {median(each.throughput for each in those):,.0f} "
            f"| {median(each.percentile(50) for each in those):.2f} "
            f"| {median(each.percentile(99) for each in those):.2f} "
            f"| {median(worker):.1f} | {median(server):.1f} |",
            flush=True,
        )


async def _fill(storage: Storage) -> None:
    texts = _Texts()
    for start in range(0, IDS, 1_000):
        await storage.upsert({_id(i): texts.new(i) for i in range(start, start + 1_000)})
    await storage.index_done_callback()


class _Texts:
    """Values of about 2 kB in objects that nobody has seen before."""

    def __init__(self) -> None:
        self._book = BOOK.read_text(encoding="utf-8")
        self._number = 0

    def new(self, at: int) -> dict[str, str]:
        self._number += 1
        start = at * 97 % (len(self._book) - VALUE)
        text = f"{self._number} {self._book[start : start + VALUE]}"
        return {"return": text, "model": "gpt-4o"}


def _id(number: int) -> str:
    return f"{number:032x}"


async def _open(client: str, server: Server) -> Storage:
    """The client's storage of cached answers, in one of its forms."""
    if client.endswith(SINGLE_FLIGHT):
        return await _WithSingleFlight().open(server, ANSWERS)
    peer: Peer = load(client.removesuffix(NEAR))
    if client.endswith(NEAR):
        assert isinstance(peer, NearPeer)
        return await peer.open_near(server, ANSWERS)
    return await peer.open(server, ANSWERS)


class _WithSingleFlight(Ours):
    """This library with single flight on."""

    def _settings(self, server: Server) -> dict[str, object]:
        return {**super()._settings(server), "redis_single_flight": "on"}


async def _round(storage: Storage, order: Order) -> Report:
    random, texts = Random(order.seed), _Texts()
    weights = [1 / (rank + 1) ** (ZIPF if order.zipf else 0) for rank in range(IDS)]
    picks = random.choices(range(IDS), cum_weights=list(accumulate(weights)), k=200_000)
    latencies: Counter[int] = Counter()
    calls = 0
    processor, start = time.process_time(), time.perf_counter()
    end = start + order.seconds

    async def call() -> None:
        nonlocal calls
        pick = picks[calls % len(picks)]
        calls += 1
        if random.random() < READS:
            await storage.get_by_id(_id(pick))
        else:
            await storage.upsert({_id(pick): texts.new(pick)})

    async def caller(number: int) -> None:
        pause = CALLERS / order.pace if order.pace else 0.0
        due = start + pause * number / CALLERS
        while (now := time.perf_counter()) < end:
            if pause:
                if due > now:
                    await asyncio.sleep(due - now)
            else:
                due = now
            await call()
            micros = max((time.perf_counter() - due) * 1e6, 1.0)
            latencies[math.ceil(math.log2(micros) * _TICKS_A_DOUBLING)] += 1
            due += pause

    await asyncio.gather(*map(caller, range(CALLERS)))
    return Report(
        sum(latencies.values()),
        time.perf_counter() - start,
        time.process_time() - processor,
        dict(latencies),
    )


def _loop_for(*, paced: bool) -> asyncio.AbstractEventLoop:
    """The loop of every program, or one that wakes up when it is due: epoll counts milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector() if paced else None)


async def _work(client: str, server: Server) -> None:
    storage = await _open(client, server)
    found = await storage.get_by_id(_id(0))
    if found is None:
        await _fill(storage)
    loop = asyncio.get_running_loop()
    print(json.dumps("ready"), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        report = await _round(storage, Order(**json.loads(line)))
        print(json.dumps(asdict(report)), flush=True)
    await storage.close()


def main() -> None:
    """Measure each number of workers, or be one of them."""
    parser = argparse.ArgumentParser(prog="python -m benches.fleet", description=__doc__)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one round of a client")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--loads", nargs="*", type=float, default=LOADS, metavar="PART")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        client, host, port, directory, paced = options.worker
        with closing(_loop_for(paced=bool(paced))) as loop:
            loop.run_until_complete(_work(client, Server(host, int(port), 0, "", Path(directory))))
        return
    require_hiredis()
    with running_server() as server:
        print(f"{server.version}; {psutil.cpu_count()} cores; {CALLERS} callers a worker")
        near = [client for client in options.clients if client.endswith(NEAR)]
        plain = [client for client in options.clients if client not in near]
        for number, zipf in product(options.workers, (False, True)):
            for clients in filter(None, (plain, near)):
                measure(clients, number, server, options, zipf=zipf)


if __name__ == "__main__":
    main()
