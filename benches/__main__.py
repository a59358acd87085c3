"""The command: `python -m benches --help`."""

import argparse
import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benches import growth, latency, limits, machine, memory, payloads, plot, readme, report
from benches.measure import Preparation, Series, measure
from benches.peers import FILES, OURS, Peer, load, names
from benches.results import HAND_TUNED, POOL_SIZES, STRAIGHTFORWARD, Results, Timing
from benches.server import MAX_CLIENTS, Server, running_server
from benches.stage import Entrant, enter, enter_near, leave, leave_near, memory_per_byte
from benches.workload import Workload
from benches.workloads import workloads

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
LATENCY, MEMORY, GROWTH = "latency", "memory", "growth"
QUICK, FULL = 1.2, 10.0  # seconds for each workload
IN_TURN_QUICK = 200  # calls, one after another, of one round
# Two peers with a socket for each of 10,000 callers are more than the server admits.
LEFT_OUT_OF_GROWTH = (POOL_SIZES[STRAIGHTFORWARD][1], POOL_SIZES[HAND_TUNED][0])
LEFT_OUT_OF_MEMORY = (POOL_SIZES[HAND_TUNED][0],)
GROWTH_SHARE = 0.25  # of that, for each size of a sweep


def main() -> None:
    """Run what was asked for, print the report, and write it where `--write` says so."""
    parser = _parser([workload.name for workload in workloads(payloads.build())])
    options = parser.parse_args()
    if options.write and (options.only or options.peers or options.quick or options.uvloop):
        parser.error("--write replaces the whole report: no --only, --peers, --quick or --uvloop")
    _raise_socket_limit()
    # A terminated run takes its server with it.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    loop = _event_loop(uvloop=options.uvloop)
    chosen = [load(name) for name in options.peers or names()]
    sections = [LATENCY] if options.quick else [LATENCY, MEMORY, GROWTH]
    results = run(loop, chosen, options.only, sections, quick=options.quick)
    loop.close()
    text = report.markdown(results)
    print(text)
    if options.write:
        (DOCS / "benchmark.md").write_text(text, encoding="utf-8")
        quoted = readme.with_figures(README.read_text(encoding="utf-8"), text)
        README.write_text(quoted, encoding="utf-8")
        plot.draw(results, DOCS / "benchmark.png")


def run(
    loop: asyncio.AbstractEventLoop,
    peers: list[Peer],
    only: list[str] | None,
    sections: list[str],
    *,
    quick: bool,
) -> Results:
    """Measure the workloads and sections named in `only`, or all of them and `sections`."""
    data, budget = payloads.build(), QUICK if quick else FULL
    every = workloads(data, IN_TURN_QUICK) if quick else workloads(data)
    only = only or [*(workload.name for workload in every), *sections]
    with running_server() as server:
        start = machine.Load.now(server)
        results = Results(
            machine.describe(server, type(loop).__module__.partition(".")[0]), data.sizes()
        )
        _say("storing the payloads and comparing the answers")
        entrants = loop.run_until_complete(enter(peers, server, data))
        if OURS in [peer.name for peer in peers]:
            results.memory_per_byte = memory_per_byte(server, data)
        # What lives from here on is nobody's garbage, and collecting it takes longer than a round.
        gc.collect()
        gc.freeze()
        named = [each for each in every if each.name in only]
        results.timings = _timings(loop, server, entrants, data, named, budget)
        if LATENCY in only:
            _say(LATENCY)
            stores = {each.peer.name: each.stores for each in entrants if each.peer.name != FILES}
            results.latencies = latency.measure_latency(loop, stores, data, budget)
        if MEMORY in only:
            _say(MEMORY)
            grown = [peer for peer in peers if peer.name not in LEFT_OUT_OF_MEMORY]
            results.memory = memory.measure_memory(server, grown) if memory.measurable() else []
        if GROWTH in only:
            _say(GROWTH)
            swept = [each for each in entrants if each.peer.name not in LEFT_OUT_OF_GROWTH]
            storages = loop.run_until_complete(growth.open_growth(swept, server))
            results.curves = growth.measure_growth(
                loop, storages, data, _most_callers(), budget * GROWTH_SHARE
            )
        loop.run_until_complete(leave(entrants))
        results.load = machine.Load.now(server).since(start)
    return results


def _timings(
    loop: asyncio.AbstractEventLoop,
    server: Server,
    entrants: list[Entrant],
    data: payloads.Payloads,
    named: list[Workload],
    budget: float,
) -> list[Timing]:
    bare = limits.BareSocket(server, data)
    loop.run_until_complete(bare.fill())
    timings = []
    for workload in named:
        _say(workload.name)
        present = entrants
        if workload.near:
            present = loop.run_until_complete(enter_near(entrants, server, data))
        actions: dict[str, Preparation] = {
            each.peer.name: partial(workload.action, each.stores)
            for each in present
            if (workload.files or each.peer.name != FILES)
            and (each.stores.blocking or not workload.blocking)
        }
        aside, reference = None, list[float]()
        if not workload.mixed:
            prepared = bare.action(workload.traffic)
            actions[limits.SOCKET] = partial(lambda action: action, prepared)
            if workload.traffic.in_threads:
                decoding = bare.action(workload.traffic, decode=True)
                actions[limits.SOCKET_AND_CODEC] = partial(lambda action: action, decoding)
            if workload.traffic.command != "EXISTS":
                actions[limits.CODEC] = partial(limits.codec, workload.traffic, data)
            if not workload.blocking:
                actions[limits.EVENT_LOOP] = partial(limits.event_loop, loop, workload.traffic)
            if request := limits.redis_benchmark(server, bare, workload.traffic):
                aside = partial(_append, reference, request)
        series = measure(loop, actions, workload.items, budget, aside=aside)
        timings.append(Timing(workload, series, Series(1, reference) if reference else None))
        if workload.near:
            loop.run_until_complete(leave_near(present))
    bare.close()
    return timings


def _append(to: list[float], figure: Callable[[], float]) -> None:
    to.append(figure())


def _parser(calls: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute: calls and latency")
    parser.add_argument("--only", nargs="+", choices=[*calls, LATENCY, MEMORY, GROWTH])
    parser.add_argument("--peers", nargs="+", choices=names())
    parser.add_argument("--uvloop", action="store_true", help="on uvloop instead of asyncio's own")
    parser.add_argument("--write", action="store_true", help="docs/benchmark.md, .png, README")
    return parser


def _event_loop(*, uvloop: bool) -> asyncio.AbstractEventLoop:
    if not uvloop:
        return asyncio.new_event_loop()
    import uvloop as faster

    return faster.new_event_loop()


def _raise_socket_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _most_callers() -> int:
    """How many callers may open a socket each, beside what is open already."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(allowed, MAX_CLIENTS) - 3_000, 1)


def _say(what: str) -> None:
    print(f"... {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
