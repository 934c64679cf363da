"""The roofline: the rate of each case beside what the machine's products and memory allow.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52 (2009).
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rnn_gpu.bench.charts.common import MARKERS, measured_on, png
from rnn_gpu.bench.report import Report, Row

__all__ = ["draw", "intensity"]


def draw(report: Report) -> bytes:
    """Draw our rows: floating-point operations a second against operations a byte. Returns a PNG file.

    Operations are those of the matrix products, bytes those of `Case.traffic`: each array once. A case whose arrays
    stay in a cache from run to run may lie above the slope, which is memory's.
    Raises ValueError where there is no row with a time, or the machine's own rates were not measured.
    """
    found = {(row.cell, row.shape, row.mode): row for row in report.rows if row.ours_s is not None and _plain(row)}
    if not found or not report.sgemm_gflops or not report.memory_gb_s:
        raise ValueError("no row with a time, or no rate of the machine")
    rows = list(found.values())
    modes, cells, shapes = (
        list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("mode", "cell", "shape")
    )
    figure = Figure(figsize=(2.0 + 4.2 * len(modes), 5.2), layout="constrained")
    panels = figure.subplots(1, len(modes), sharex=True, sharey=True, squeeze=False)[0]
    span = [bound for row in rows for bound in (intensity(row) / 1.6, intensity(row) * 1.6)]
    for axes, mode in zip(panels, modes, strict=True):
        _roof(axes, report, min(*span, report.sgemm_gflops / report.memory_gb_s / 3), max(span))
        for row in (row for row in rows if row.mode == mode):
            colour = f"C{cells.index(row.cell)}"
            axes.plot(
                intensity(row), row.flops / (row.ours_s or 1.0) * 1e-9,
                MARKERS[shapes.index(row.shape) % len(MARKERS)], color=colour, mfc="white" if row.disturbed else colour,
                ms=6, alpha=0.85,
            )  # fmt: skip
        axes.set_title(mode, fontsize=10)
        axes.set_xlabel("operations of the products a byte of the arrays")
    panels[0].set_ylabel("GFLOP/s")
    for k, cell in enumerate(cells):
        panels[0].plot([], [], "s", color=f"C{k}", label=cell)
    for k, shape in enumerate(shapes):
        panels[0].plot([], [], MARKERS[k % len(MARKERS)], color="0.3", ms=6, label=str(shape))
    if any(row.disturbed for row in rows):
        panels[0].plot([], [], "o", color="0.4", mfc="white", label="hollow: doubtful")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8, title="cell; T,B,I,H")
    figure.suptitle(f"Roofline of {report.backend}, {rows[0].dtype}, {measured_on(report)}", fontsize=11)
    return png(figure)


def intensity(row: Row) -> float:
    """Operations of a row's matrix products for each byte that must be moved."""
    return row.flops / row.traffic


def _roof(axes: Axes, report: Report, low: float, high: float) -> None:
    """The flat part is the rate of a large product, the slope that of memory."""
    peak, memory = report.sgemm_gflops, report.memory_gb_s
    corners = (low, min(peak / memory, high), high)
    axes.plot(corners, [min(peak, memory * at) for at in corners], color="black", lw=1.4, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.annotate(
        f"a large NumPy product: {peak:.0f} GFLOP/s", (high, peak), (0, 4), "data", "offset points", fontsize=8,
        ha="right",
    )  # fmt: skip
    axes.annotate(
        f"memory: {memory:.0f} GB/s", (low, memory * low), (8, 0), "data", "offset points", fontsize=8, va="top",
    )  # fmt: skip
    axes.grid(alpha=0.3, which="both", lw=0.5)


def _plain(row: Row) -> bool:
    return row.what == row.mode and row.mode != "step"
