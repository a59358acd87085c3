"""``stats``: contents, memory, usage and savings."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from nano_graphrag_redis.exceptions import StorageUnavailableError
from nano_graphrag_redis.humanize import duration, plural, size
from nano_graphrag_redis.migration.namespaces_and_foreign_keys import told_of_foreign
from nano_graphrag_redis.printable import visible

from .output import table
from .session import Session
from .stats_figures_and_json import Figures, Savings, figures

Watch = Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")]
Every = Annotated[
    float, typer.Option("--every", min=0.1, max=86_400, help="Refresh interval in seconds.")
]
Price = Annotated[
    float | None,
    typer.Option(
        "--price-per-call", min=0, max=1e9, help="Price of an LLM call, to report savings."
    ),
]

_DAYS_SHOWN = 7
_TREND_SHOWN = 30


def stats(
    session: Session, watch: Watch = False, every: Every = 2.0, price_per_call: Price = None
) -> None:
    """Show the contents, memory and usage of the namespaces.

    Hits, calls and latencies come from the service's processes, which write them to
    REDIS_METRICS_DIR.
    """

    def now() -> Figures:
        with session.output.progress() as bars:
            return figures(session.bare, session.metrics_dir, price_per_call, bars)

    if not watch:
        found = now()
        session.output.show(asdict(found), lambda: _report(session.where, found))
        return
    # What is looked at while the screen is being drawn on draws no bars.
    session.output.quiet = True
    trend = _Trend("▁▂▃▄▅▆▇█" if session.output.says("▁▂▃▄▅▆▇█") else ".:-=+*#@")

    def drawn(found: Figures) -> RenderableType:
        return Group(trend.add(found), _report(session.where, found))

    if session.output.as_json or not session.output.out.is_terminal:
        # There is no screen to draw on: one report after another.
        for looked in _looks(now, every):
            if isinstance(looked, StorageUnavailableError):
                session.output.refuse(looked)
            else:
                shown = asdict(looked), lambda found=looked: Group(drawn(found), Text())
                session.output.show(*shown)
        return
    screen: RenderableType = Text()
    with Live(screen, console=session.output.out, auto_refresh=False) as live:
        for looked in _looks(now, every):
            if isinstance(looked, StorageUnavailableError):
                live.update(Group(Text(str(looked), "bold red"), screen), refresh=True)
            else:
                screen = drawn(looked)
                live.update(screen, refresh=True)


def _looks(now: Callable[[], Figures], every: float) -> Iterator[Figures | StorageUnavailableError]:
    """The figures again and again; why there are none, once, while the server is away.

    Raises:
        StorageError: The first look failed, or the server refuses.
    """
    yield now()
    away = False
    while True:
        time.sleep(every)
        try:
            found = now()
        except StorageUnavailableError as error:
            if not away:
                yield error
            away = True
        else:
            away = False
            yield found


class _Trend:
    """The clock, and what has changed since the watch began."""

    def __init__(self, bars: str) -> None:
        self._bars = bars
        self._rates: deque[float] = deque(maxlen=_TREND_SHOWN)
        self._first: Figures | None = None
        self._since = time.monotonic()

    def add(self, found: Figures) -> Text:
        """The line of this moment."""
        first = self._first = self._first or found
        parts = [f"{time.strftime('%X')}, for {duration(int(time.monotonic() - self._since))}"]
        if "instantaneous_ops_per_sec" in found.server:
            self._rates.append(found.server["instantaneous_ops_per_sec"])
            most = max(*self._rates, 1)
            top = len(self._bars) - 1
            drawn = "".join(self._bars[round(rate / most * top)] for rate in self._rates)
            parts.append(f"commands/s {drawn} {self._rates[-1]:,.0f}")
        keys, before = (sum(each.keys for each in some.namespaces) for some in (found, first))
        parts.append(f"keys {keys - before:+,}")
        if found.llm is not None and first.llm is not None:
            parts.append(f"LLM calls saved {found.llm.saved - first.llm.saved:+,}")
        return Text("  ".join(parts), "cyan")


def _report(where: str, found: Figures) -> RenderableType:
    parts: list[RenderableType] = [Text(where, "bold")]
    if found.llm is not None:
        parts += [Text(_saved(found.llm), "bold green"), *_single_flight(found), *_days(found.llm)]
        parts.append(Text())
    parts += [_namespaces(found), Text()]
    skipped = told_of_foreign(found.foreign_count, found.foreign)
    parts += [Text(line, "yellow") for line in (skipped, *found.passed_over) if line]
    server = _server(found)
    if server:
        parts.append(Text(server))
    if found.operations is None:
        parts.append(
            Text("no figures of the service: set REDIS_METRICS_DIR for it and for this", "dim")
        )
    elif found.operations:
        parts += [Text(), _operations(found)]
    return Group(*parts)


def _namespaces(found: Figures) -> RenderableType:
    numbers = ("keys", "memory", "lives", "compressed", "hits")
    made = table("namespace", *numbers, numbers=numbers)
    for each in found.namespaces:
        made.add_row(
            visible(each.namespace),
            f"{each.keys:,}",
            "" if each.bytes is None else size(each.bytes),
            duration(each.ttl) if each.ttl else "for ever",
            "" if each.compression is None else f"{each.compression:.1f}x",
            _rate(found, each.namespace),
        )
    return made


def _rate(found: Figures, namespace: str) -> str:
    """The share of reads that found a value."""
    hits, misses = ((counts or {}).get(namespace, 0) for counts in (found.hits, found.misses))
    return f"{hits / (hits + misses):.1%}" if hits + misses else ""


def _server(found: Figures) -> str:
    """What the server says of itself: managed and compatible ones leave lines of INFO out."""
    said, parts = found.server, []
    if "used_memory" in said:
        most = f" of {size(said['maxmemory'])}" if said.get("maxmemory") else ""
        parts.append(f"{size(said['used_memory'])}{most}")
    if "connected_clients" in said:
        ours = "" if found.connections is None else f" ({found.connections:,} of this service)"
        parts.append(f"{plural(round(said['connected_clients']), 'connection')}{ours}")
    if "instantaneous_ops_per_sec" in said:
        parts.append(f"{said['instantaneous_ops_per_sec']:,.0f} commands/s")
    hits, misses = said.get("keyspace_hits"), said.get("keyspace_misses")
    if hits is not None and misses is not None and hits + misses:
        parts.append(f"{hits / (hits + misses):.1%} of reads hit")
    if "expired_keys" in said:
        parts.append(f"{plural(round(said['expired_keys']), 'key')} expired")
    if "evicted_keys" in said:
        parts.append(f"{said['evicted_keys']:,.0f} evicted")
    return f"server: {', '.join(parts)}" if parts else ""


def _operations(found: Figures) -> RenderableType:
    numbers = ("calls", "failed", "mean", "p99 below")
    made = table("namespace", "operation", *numbers, numbers=numbers)
    for each in found.operations or ():
        p99 = "" if each.p99 is None else f"{each.p99 * 1000:,.3g} ms"
        made.add_row(
            visible(each.namespace),
            visible(each.operation),
            f"{each.calls:,}",
            f"{each.failed:,}",
            f"{each.mean * 1000:,.3g} ms",
            p99,
        )
    return made


def _saved(llm: Savings) -> str:
    if not llm.asked:
        return "no answer was asked of the LLM cache yet"
    saved = f"{plural(llm.saved, 'LLM call')} saved of {llm.asked:,} ({llm.saved / llm.asked:.1%})"
    return saved if llm.money is None else f"{saved}; {llm.money:,.2f} at {llm.price:g} a call"


def _single_flight(found: Figures) -> list[RenderableType]:
    """What single flight did, or would do; nothing where it is off."""
    told = found.single_flight or {}
    lines: list[RenderableType] = []
    if told.get("waits") or told.get("saved"):
        lines.append(
            Text(
                f"single flight: {told['saved']:,} of them by waiting; {told['promoted']:,} waited "
                f"for a call that failed, {told['timed_out']:,} in vain"
            )
        )
    if told.get("would_wait"):
        lines.append(
            Text(f"redis_single_flight=on would have saved up to {told['would_wait']:,} more")
        )
    return lines


def _days(llm: Savings) -> list[RenderableType]:
    """The last days, where there are several."""
    if len(llm.days) <= 1:
        return []
    numbers = ("asked", "saved", "share", *(() if llm.price is None else ("worth",)))
    made = table("day (UTC)", *numbers, numbers=numbers)
    for each in llm.days[-_DAYS_SHOWN:]:
        share = f"{each.saved / each.asked:.1%}" if each.asked else ""
        money = () if each.money is None else (f"{each.money:,.2f}",)
        made.add_row(each.day, f"{each.asked:,}", f"{each.saved:,}", share, *money)
    return [made]
