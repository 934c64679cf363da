"""A report as tables for the terminal. What is worse than it should be is said in words, and shown by colour too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from rnn_gpu.bench.report import Report, Row
from rnn_gpu.bench.suites import PRODUCT_TARGET

__all__ = ["in_words", "seconds", "tables"]

_BAD = "bold red"
_SLOWER = "yellow"


def tables(report: Report) -> Iterator[Table]:
    """The report's tables, those that have anything in them."""
    sweeps = (_speeds(rows, report.backend, f"Growth with {axis}") for axis, rows in report.sweeps.items())
    speeds = _speeds(report.rows, report.backend, "Time of a call: ours, and how many times as long the others take")
    made = (speeds, _summary(report), _products(report), _growth(report), *sweeps, _first_calls(report))
    return (table for table in made if table.row_count)


def seconds(value: float) -> str:
    """Write a time in three digits with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value * 1e9:.0f} ns"


def in_words(machine: dict[str, str | int | None]) -> str:
    """The machine in two lines."""
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("numpy", "numba", "torch", "onnxruntime") if machine[name]
    )
    return (
        f"{machine['processor']}, {machine['usable_cores']} of {machine['cores']} cores\n"
        f"Python {machine['python']}, {versions}"
    )


def _speeds(measured: Sequence[Row], backend: str, title: str) -> Table:
    """A line a case, a column a peer."""
    peers = list(dict.fromkeys(row.peer for row in measured if row.peer is not None))
    table = _table(title, "cell", "T,B,I,H", "mode")
    for name in (backend, *peers, "error"):
        table.add_column(name, justify="right")
    table.add_column("remark")
    cases: dict[tuple[object, ...], list[Row]] = {}
    for row in measured:
        cases.setdefault((row.cell, row.shape, row.what), []).append(row)
    for rows in cases.values():
        first = rows[0]
        by_peer = {row.peer: row for row in rows}
        ours = next((row.ours_s for row in rows if row.ours_s is not None), None)
        remark, style = _remark(rows)
        table.add_row(
            first.cell,
            str(first.shape),
            first.what,
            "-" if ours is None else seconds(ours),
            *(_beside(by_peer.get(peer)) for peer in peers),
            f"{first.error:.0e}",
            remark,
            style=style,
        )
    return table


def _beside(row: Row | None) -> str:
    if row is None or row.peer_s is None or row.ratio is None:
        return "-"
    return f"{seconds(row.peer_s)} {_times(row.ratio):>6}"


def _remark(rows: list[Row]) -> tuple[str, str | None]:
    first = rows[0]
    if first.status == "wrong":
        return f"WRONG: error of {first.error_in} {first.error:.2e}, allowed {first.bound:.2e}; no speed given", _BAD
    remarks = []
    slower = [str(row.peer) for row in rows if row.slower]
    if slower:
        remarks.append("SLOWER than " + ", ".join(slower))
    remarks += [f"{row.peer} is wrong: error {row.peer_error:.1e}" for row in rows if row.status == "peer wrong"]
    style = _SLOWER if remarks else None
    if first.others is not None and first.disturbed:
        remarks.append(f"DOUBTFUL: {first.others:.1f} cores busy elsewhere")
    return "; ".join(remarks), style


def _summary(report: Report) -> Table:
    table = _table("How many times as long the others take, in all", "mode", "peer")
    for name in ("geometric mean", "least", "cases"):
        table.add_column(name, justify="right")
    table.add_column("remark")
    for entry in report.summaries():
        table.add_row(
            entry.mode,
            entry.peer,
            _times(entry.geometric_mean),
            _times(entry.least),
            str(entry.rows),
            "; ".join(
                f"{what} {count}"
                for what, count in (("SLOWER in", entry.slower), ("DOUBTFUL:", entry.doubtful))
                if count
            ),
            style=_SLOWER if entry.slower else None,
        )
    return table


def _products(report: Report) -> Table:
    title = "Rate of the matrix products, beside a large product by NumPy timed in turns with it"
    table = _table(title, "cell", "T,B,I,H", "mode")
    for name in ("GFLOP/s", "NumPy's", "share"):
        table.add_column(name, justify="right")
    table.add_column("remark")
    for row in report.products:
        low = row.fraction < PRODUCT_TARGET
        table.add_row(
            row.cell, str(row.shape), row.mode, _three(row.gflops), _three(row.sgemm_gflops), f"{row.fraction:.0%}",
            f"BELOW {PRODUCT_TARGET:.0%}" if low else "", style=_SLOWER if low else None,
        )  # fmt: skip
    return table


def _growth(report: Report) -> Table:
    table = _table("Growth with the number of steps", "cell", "T,B,I,H", "mode", "steps")
    for name in ("time", "with more steps", "ratio"):
        table.add_column(name, justify="right")
    table.add_column("remark")
    for row in report.growth:
        what = (row.cell, str(row.shape), row.mode, f"{row.T} -> {row.grown_T}")
        if row.seconds is None or row.grown_s is None or row.ratio is None:
            table.add_row(
                *what, "-", "-", "-", f"WRONG: error of {row.error_in} {row.error:.2e}; no speed given", style=_BAD
            )
            continue
        over = row.ratio > row.limit
        table.add_row(
            *what, seconds(row.seconds), seconds(row.grown_s), f"{row.ratio:.2f}",
            f"MORE than {row.limit:g}" if over else "", style=_SLOWER if over else None,
        )  # fmt: skip
    return table


def _first_calls(report: Report) -> Table:
    table = _table("First call in this process, compilation or loading from its cache included", "cell", "mode")
    table.add_column("time", justify="right")
    for entry in report.first_calls:
        table.add_row(entry.cell, entry.mode, seconds(entry.seconds))
    return table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left")


def _times(ratio: float) -> str:
    return f"{_three(ratio)}x"


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    value = float(f"{value:.3g}")
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 2
    return f"{value:.{min(max(digits, 0), 3)}f}"
