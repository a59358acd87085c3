"""The plot of a run: what each client takes for each call, and the curves as the work grows."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # a file, on machines without a display

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benches.growth import Curve
from benches.peers import FILES, OURS
from benches.results import COLUMNS, HAND_TUNED, STRAIGHTFORWARD, Results, Timing, column_of

# Told apart by the colour-blind, and in grey.
COLOURS = {
    OURS: "#d55e00",
    STRAIGHTFORWARD: "#999999",
    HAND_TUNED: "#56b4e9",
    "glide": "#0072b2",
    FILES: "#f0e442",
}
BAR = 0.16  # of the distance between two calls


def draw(results: Results, path: Path) -> None:
    """Write the picture as PNG."""
    below = (len(results.curves) + 1) // 2
    heights = [7, 3.4 * below] if below else [7]
    figure = plt.figure(figsize=(11, 7 + 3.4 * below), layout="constrained")
    parts = figure.subfigures(2 if below else 1, 1, squeeze=False, height_ratios=heights)[:, 0]
    _bars(parts[0].subplots(), results.timings)
    if below:
        panels = list(parts[1].subplots(below, 2, squeeze=False).flat)
        for panel, curve in zip(panels, results.curves, strict=False):
            _lines(panel, curve)
        for unused in panels[len(results.curves) :]:
            unused.remove()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _bars(axes: Axes, timings: list[Timing]) -> None:
    columns = [name for name in COLUMNS if any(timing.column(name) for timing in timings)]
    for offset, name in enumerate(columns):
        shown = [(row, each) for row, timing in enumerate(timings) if (each := timing.column(name))]
        medians = [each.per_item for _, each in shown]
        spreads = [each.spread for _, each in shown]
        axes.barh(
            [row + (offset - (len(columns) - 1) / 2) * BAR for row, _ in shown],
            medians,
            height=BAR,
            color=COLOURS[name],
            label=COLUMNS[name],
            xerr=[
                [median - low for median, (low, _) in zip(medians, spreads, strict=True)],
                [high - median for median, (_, high) in zip(medians, spreads, strict=True)],
            ],
            error_kw={"elinewidth": 0.8},
        )
    axes.set_yticks(range(len(timings)), [timing.workload.title for timing in timings])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("microseconds of an item: median, 10th to 90th percentile (less is better)")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")


def _lines(axes: Axes, curve: Curve) -> None:
    sizes = list(curve.points)
    for name in curve.points[sizes[0]]:
        medians = [curve.points[size][name].per_item for size in sizes]
        column = column_of(name)
        axes.plot(sizes, medians, marker="o", markersize=3, color=COLOURS[column], label=column)
    axes.set(xscale="log", yscale="log", xlabel=curve.sweep.axis, ylabel="µs of an item")
    axes.set_title(curve.sweep.title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
