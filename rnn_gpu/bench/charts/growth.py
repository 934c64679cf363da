"""Time against the number of steps, rows and units, ours and the peers'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rnn_gpu.bench.charts.common import MARKERS, measured_on, png
from rnn_gpu.bench.report import Report, Row
from rnn_gpu.bench.table import seconds

__all__ = ["draw"]

_AXES = {"T": "T, time steps", "B": "B, rows", "H": "H = I, hidden units and inputs"}
_STYLES = ("--", ":", "-.")
"""Of the peers' lines; ours are solid."""


def draw(report: Report) -> bytes:
    """Draw the sweeps: a column an axis, a line of panels a mode, both scales logarithmic. Returns a PNG file.

    Raises ValueError where no sweep was timed.
    """
    sweeps = {
        axis: timed
        for axis, rows in report.sweeps.items()
        if (timed := [row for row in rows if row.ours_s is not None])
    }
    if not sweeps:
        raise ValueError("no sweep with a time")
    every = [row for rows in sweeps.values() for row in rows]
    modes, cells = _unique(row.mode for row in every), _unique(row.cell for row in every)
    peers = _unique(row.peer for row in every if row.peer is not None and row.peer_s is not None)
    figure = Figure(figsize=(1.2 + 3.6 * max(len(sweeps), 1.5), 1.3 + 2.7 * len(modes)), layout="constrained")
    grid = figure.subplots(len(modes), len(sweeps), sharex="col", sharey="row", squeeze=False)
    for line, mode in enumerate(modes):
        for column, (axis, rows) in enumerate(sweeps.items()):
            axes = grid[line][column]
            _panel(axes, axis, [row for row in rows if row.mode == mode], cells, peers)
            axes.set_title(f"{mode}{_fixed(axis, rows)}", fontsize=9)
        grid[line][0].set_ylabel("time of a call")
    for column, axis in enumerate(sweeps):
        grid[-1][column].set_xlabel(_AXES[axis])
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False, fontsize=9)
    figure.suptitle(f"Growth of the time, {every[0].dtype}, {measured_on(report)}", fontsize=11)
    return png(figure)


def _panel(axes: Axes, axis: str, rows: Sequence[Row], cells: Sequence[str], peers: Sequence[str]) -> None:
    """A colour a cell; ours solid, the peers' in styles of their own."""
    for k, cell in enumerate(cells):
        colour, chosen = f"C{k}", [row for row in rows if row.cell == cell]
        mine = {getattr(row, axis): row.ours_s for row in chosen if row.ours_s is not None}
        style = "-" + MARKERS[k]
        axes.plot(list(mine), list(mine.values()), style, color=colour, ms=4, lw=1.6, label=f"{cell}, rnn_gpu")
        for peer, style in zip(peers, _STYLES, strict=False):
            beside = [row for row in chosen if row.peer == peer]
            theirs = {getattr(row, axis): row.peer_s for row in beside if row.peer_s is not None}
            label = f"{cell}, {peer}"
            axes.plot(list(theirs), list(theirs.values()), style, color=colour, lw=1.1, alpha=0.8, label=label)
    sizes: list[float] = list(dict.fromkeys(getattr(row, axis) for row in rows))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: _unit(value)))
    axes.grid(alpha=0.3)


def _fixed(axis: str, rows: Sequence[Row]) -> str:
    """The other axes' sizes."""
    others = [name for name in ("T", "B", "H") if name != axis]
    return "".join(f", {name} = {getattr(rows[0], name)}" for name in others)


def _unit(value: float) -> str:
    """A power of ten of seconds."""
    number, unit = seconds(value).split()
    return f"{float(number):g} {unit}"


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
