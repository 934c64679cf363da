"""A report as a picture: how many times as long each peer takes, by shape and mode."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rnn_gpu.bench.charts.common import MARKERS, measured_on, png
from rnn_gpu.bench.report import Report, Row
from rnn_gpu.bench.shapes import Shape

__all__ = ["draw"]

_HOLLOW = "hollow: doubtful, as other processes were at work"
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def draw(report: Report) -> bytes:
    """Draw the whole sequences that have a ratio: a panel a mode and peer, a line a shape, a marker a cell.

    Returns a PNG file. Raises ValueError where no row has a ratio.
    """
    rows = [row for row in report.rows if row.ratio is not None and row.mode != "step" and row.what == row.mode]
    if not rows:
        raise ValueError("no row with a ratio")
    modes = list(dict.fromkeys(row.mode for row in rows))
    peers = list(dict.fromkeys(str(row.peer) for row in rows))
    cells = list(dict.fromkeys(row.cell for row in rows))
    shapes = list(dict.fromkeys(row.shape for row in rows))
    figure = Figure(
        figsize=(2.2 + 3.4 * len(peers), 1.7 + (1.1 + 0.3 * len(shapes)) * len(modes)), layout="constrained"
    )
    grid = figure.subplots(len(modes), len(peers), sharex=True, sharey=True, squeeze=False)
    for line, mode in enumerate(modes):
        for column, peer in enumerate(peers):
            axes = grid[line][column]
            chosen = [row for row in rows if (row.mode, row.peer) == (mode, peer)]
            if not chosen:
                axes.set_axis_off()
                axes.text(0.5, 0.5, f"{peer}: {mode} not measured", ha="center", va="center", transform=axes.transAxes)
                continue
            _panel(axes, chosen, cells, shapes)
            axes.set_title(f"{mode}, over {peer}", fontsize=10)
    _scale(grid[0][0], [row.ratio for row in rows if row.ratio is not None])
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(shapes)), [str(shape) for shape in shapes])
        axes.set_ylim(len(shapes) - 0.5, -0.9)  # the first shape on top, below the words
        axes.set_ylabel("T,B,I,H")
    for column in range(len(peers)):
        lowest = [axes for axes in grid[:, column] if axes.axison][-1]
        lowest.set_xlabel("times as fast (log scale)")
        lowest.tick_params(labelbottom=True)
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(f"Speed of {report.backend} over others, {rows[0].dtype}, {measured_on(report)}", fontsize=11)
    return png(figure)


def _panel(axes: Axes, rows: Sequence[Row], cells: Sequence[str], shapes: Sequence[Shape]) -> None:
    """The cells' markers, one below the other around each shape's line; hollow where the times are doubtful."""
    axes.axvspan(1e-9, 1.0, color="tab:red", alpha=0.08, lw=0)
    axes.axvline(1.0, color="black", lw=1.2, label="equal")
    for x, side, word in ((-4, "right", "slower"), (4, "left", "faster")):
        axes.annotate(
            word, (1.0, 1.0), (x, -3), ("data", "axes fraction"), "offset points", fontsize=7, color="0.4",
            ha=side, va="top",
        )  # fmt: skip
    axes.grid(axis="x", alpha=0.3)
    for border in range(1, len(shapes)):
        axes.axhline(border - 0.5, color="black", lw=0.4, alpha=0.25)
    for k, cell in enumerate(cells):
        mine = [row for row in rows if row.cell == cell]
        offset = (k - (len(cells) - 1) / 2) * 0.8 / max(len(cells), 3)
        for row in mine:
            y, ratio = shapes.index(row.shape) + offset, row.ratio or 1.0
            axes.plot([1.0, ratio], [y, y], color=f"C{k}", lw=1.0, alpha=0.6)
            filling = "white" if row.disturbed else f"C{k}"
            axes.plot(ratio, y, MARKERS[k % len(MARKERS)], color=f"C{k}", mfc=filling, ms=4.5, zorder=3)
        axes.plot([], [], MARKERS[k % len(MARKERS)], color=f"C{k}", ms=4.5, label=cell)
    if any(row.disturbed for row in rows):
        axes.plot([], [], "o", color="0.4", mfc="white", ms=4.5, label=_HOLLOW)


def _scale(axes: Axes, ratios: Sequence[float]) -> None:
    """A log scale over all ratios, with 1 in sight; shared by every panel."""
    low, high = min(*ratios, 1.0), max(*ratios, 1.0)
    axes.set_xscale("log")
    axes.set_xlim(min(low / 1.3, 0.8), max(high * 1.3, 1.25))
    axes.xaxis.set_major_locator(FixedLocator(list(_TICKS)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
