"""The report: Markdown tables out of one run's results."""

import inspect
from collections.abc import Iterable, Mapping, Sequence

from benches.growth import Curve
from benches.limits import CODEC, EVENT_LOOP, SOCKET, SOCKET_AND_CODEC
from benches.measure import ASIDES, NOISY, Series
from benches.memory import MEBIBYTE, PROCESSES
from benches.peers import NEAR_MEBIBYTES, OURS
from benches.peers.straightforward import StraightforwardStorage
from benches.results import (
    COLUMNS,
    POOL_SIZES,
    STRAIGHTFORWARD,
    Results,
    Timing,
    better_pools,
    column_of,
    title,
)

ABSENT = "—"
METHOD = """## How it was measured, and what is noisy

All clients run in one process against one server, in turn, round after round; the order is shuffled
anew for each round and the first round is dropped. Each client has its own keys, holding the same
values as JSON with the same TTL (`json.dumps` in its default form, which the straightforward client
uses, is about 5 % longer than the others'), and gave the right answers to every call before it was
timed. Garbage is collected before each timing and not during it. An upsert overwrites values
already there. In the table of calls each round writes objects that no client has seen before, as a
host's are; under "How long a caller waits" and "As the work grows" the same objects are written
again.

A near cache is there in two: this library's, and that of valkey-glide with `server_assisted=True`,
both of {near} MiB. redis-py's asyncio client has none, and reads from the server in that row.

Client and server share the machine, so a client that keeps several cores busy takes them from
the server too. Single calls, one after another, measure the kernel's scheduling as much as the
client; a 99th percentile moves with everything else on the machine; redis-benchmark runs between
the rounds, not in them. Differences within the brackets are none.

{load} {noisy} of {series} medians in the table of calls are marked `~`."""


def markdown(results: Results) -> str:
    """The whole report; a section for each thing that was measured."""
    sections = [_head(results)]
    if results.timings:
        sections += [_calls(results.timings), _limits(results.timings)]
    if results.latencies:
        sections.append(_latency(results))
    if results.memory:
        sections.append(_memory(results))
    sections += [_curve(curve) for curve in results.curves]
    sections += [_method(results), _source()]
    return "\n\n".join(sections) + "\n"


def _head(results: Results) -> str:
    sizes = ", ".join(f"`{name}` {size:,}" for name, size in results.sizes.items())
    memory = ", ".join(f"`{name}` {each:.2f}" for name, each in results.memory_per_byte.items())
    rows = [
        *results.machine.items(),
        ("Bytes of a stored value", f"{sizes} (mean)"),
        ("Server's bytes for each of them", f"{memory} (MEMORY USAGE)"),
    ]
    return "# Benchmark\n\n![Microseconds of an item](benchmark.png)\n\n" + _table(
        ["measured", "this run"], rows
    )


def _calls(timings: Sequence[Timing]) -> str:
    header = ["microseconds of an item", *COLUMNS.values(), "straightforward ÷ ours", "best ÷ ours"]
    rows = [
        [
            timing.workload.title,
            *(_cell(timing.column(name)) for name in COLUMNS),
            _times(timing.against(STRAIGHTFORWARD)),
            _times(timing.against_best),
        ]
        for timing in timings
    ]
    return (
        "## The calls nano-graphrag makes\n\n"
        "Median of the rounds, and in brackets their 10th and 90th percentile. `~` marks a median "
        f"whose brackets are more than {NOISY:.0%} of it apart. A ratio is the median of the "
        "rounds' own ratios; over 1 is in our favour.\n\n"
        f"{_table(header, rows)}\n\n{_pool_sizes(timings)}"
    )


def _pool_sizes(timings: Sequence[Timing]) -> str:
    parts = []
    for column, (_, of_64) in POOL_SIZES.items():
        chosen = [each.workload.name for each in timings if each.fastest(column) == of_64]
        parts.append(f"64 in {', '.join(chosen) or 'none'} of {column}")
    return (
        "Each redis-py column is the better of two pools, a socket per caller and 64 sockets "
        "(blocking and hand-tuned: a pool and a socket of its own): "
        f"{'; '.join(parts)}; else the former."
    )


def _limits(timings: Sequence[Timing]) -> str:
    header = ["microseconds of an item", "ours", "bare socket", "orjson alone", "event loop alone",
              "sum", "ours ÷ sum", "redis-benchmark", "ours ÷ redis-benchmark"]  # fmt: skip
    rows = []
    for timing in timings:
        ours = timing.column(OURS)
        if timing.in_turn is None:
            continue
        reference = timing.redis_benchmark
        rows.append(
            [
                timing.workload.title,
                _cell(ours),
                _cell(timing.series.get(SOCKET)),
                _cell(timing.series.get(CODEC)),
                _cell(timing.series.get(EVENT_LOOP)),
                _cell(timing.in_turn),
                _spread_times(ours, timing.in_turn),
                _cell(reference),
                _times(ours.per_item / reference.per_item if ours and reference else None),
            ]
        )
    return (
        "### How far from the wire\n\n"
        "The bare socket sends prepared requests and throws the answers away; orjson decodes or "
        "encodes the same values and talks to nobody; the event loop runs as many calls, each a "
        "coroutine that awaits a future, and none of them asks anybody. Where the callers are "
        "threads, the bare socket is as many threads, each with a socket of its own and one "
        "request under way: no client can send what a thread that blocks has not asked for yet, "
        "and each call gives the interpreter up and takes it again among threads that want it, "
        "too. The socket does so twice a call, to send and to receive, which a client in C need "
        "not. The sum is one after the other, which a client that overlaps them, or has a faster "
        "codec, can be ahead of; ours ÷ sum is the median of the rounds' own ratios, with their "
        "10th and 90th percentile. "
        "redis-benchmark is C, with "
        f"one of the values and as many clients as there are callers, in {ASIDES} short "
        f"runs.\n\n{_table(header, rows)}{_same_threads(timings)}"
    )


def _same_threads(timings: Sequence[Timing]) -> str:
    """Where the callers are threads: the limit measured in one, and not as a sum."""
    said = ""
    for timing in timings:
        ours, both = timing.column(OURS), timing.series.get(SOCKET_AND_CODEC)
        if ours and both:
            said += (
                f"\n\n{timing.workload.title}: the sum is of parts measured apart. The same "
                "threads with the same sockets, each of which decodes with orjson what it has "
                f"received, take {_cell(both)} µs; ours ÷ that is {_spread_times(ours, both)}."
            )
    return said


def _latency(results: Results) -> str:
    header = ["callers", "call", "client", "p50 ms", "p99 ms", "calls a second", "calls timed"]
    rows = [
        [str(one.callers), one.call, COLUMNS[column_of(one.peer)], f"{one.percentile(50):.2f}",
         f"{one.percentile(99):.2f}", f"{one.throughput:,.0f}", f"{len(one.seconds):,}"]
        for one in better_pools(results.latencies)
    ]  # fmt: skip
    return (
        "## How long a caller waits\n\nPercentiles of single calls. Each redis-py row is of the "
        f"pool with the lower median.\n\n{_table(header, rows)}"
    )


def _memory(results: Results) -> str:
    header = ["job, in a fresh process", "client", "peak growth, MiB", "of it answers, MiB",
              "beyond the answers, MiB", "threads", "sockets"]  # fmt: skip
    rows = [
        [one.job, title(one.peer), f"{one.peak / MEBIBYTE:.1f}", f"{one.values / MEBIBYTE:.1f}",
         f"{(one.peak - one.values) / MEBIBYTE:.1f}", str(one.threads), str(one.sockets)]
        for one in results.memory
    ]  # fmt: skip
    return (
        f"## Memory\n\nThe process with the median peak of {PROCESSES}.\n\n{_table(header, rows)}"
    )


def _curve(curve: Curve) -> str:
    names = list(next(iter(curve.points.values())))
    rows = [
        [f"{size:,}", *(_cell(series[name]) for name in names), str(_rounds(series))]
        for size, series in curve.points.items()
    ]
    return (
        f"### As the work grows: {curve.sweep.title}\n\n"
        "Microseconds of an item; no brackets where there were less than five rounds.\n\n"
        + _table([curve.sweep.axis, *map(title, names), "rounds"], rows)
    )


def _rounds(series: Mapping[str, Series]) -> int:
    return max(len(each.seconds) for each in series.values())


def _method(results: Results) -> str:
    series = [each for timing in results.timings for each in timing.series.values()]
    noisy = sum(each.noisy for each in series)
    return METHOD.format(near=NEAR_MEBIBYTES, load=results.load, noisy=noisy, series=len(series))


def _source() -> str:
    return (
        "## The straightforward backend\n\n"
        f"```python\n{inspect.getsource(StraightforwardStorage).rstrip()}\n```"
    )


def _cell(series: Series | None) -> str:
    if series is None:
        return ABSENT
    if not series.spread_known:
        return _number(series.per_item)
    low, high = series.spread
    return f"{'~' * series.noisy}{_number(series.per_item)} ({_number(low)}–{_number(high)})"


def _number(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _times(ratio: float | None) -> str:
    return ABSENT if ratio is None else f"{ratio:.2f}×"


def _spread_times(ours: Series | None, others: Series) -> str:
    if ours is None:
        return ABSENT
    low, high = ours.ratio_spread(others)
    return f"{_times(ours.ratio(others))} ({low:.2f}–{high:.2f})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
