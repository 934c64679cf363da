"""Results on a device as tables: for the terminal, and for the documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from rnn_gpu.bench.gpu.results import Results, Row
from rnn_gpu.bench.gpu.suites import MODES
from rnn_gpu.bench.timing import geometric_mean

__all__ = ["machine_in_words", "markdown", "summaries", "table"]

_COLUMNS = (
    "cell",
    "type",
    "T,B,I,H",
    "mode",
    "ours, us/step",
    "torch, us/step",
    "ratio",
    "error",
    "strategy",
    "remark",
)


def table(title: str, results: Results) -> Table:
    """For the terminal: a line a case."""
    made = Table(*_COLUMNS, title=title, title_justify="left")
    for row in _in_order(results.rows):
        bad = row.status == "wrong"
        slower = row.ratio is not None and row.ratio < 1
        made.add_row(*_cells(row), style="bold red" if bad else "yellow" if slower else None)
    return made


def summaries(rows: Iterable[Row]) -> Iterator[str]:
    """A sentence for each mode and type: how many times as long torch takes."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.ratio is not None:
            groups.setdefault((row.mode, row.kind), []).append(row.ratio)
    for (mode, kind), ratios in groups.items():
        slower = sum(ratio < 1 for ratio in ratios)
        worse = f", {slower} of them below 1" if slower else ""
        yield (
            f"{mode}, {kind}: torch takes {geometric_mean(ratios):.2f} times as long, at least {min(ratios):.2f} "
            f"times, in {len(ratios)} cases{worse}."
        )


def machine_in_words(results: Results) -> str:
    """Device, versions, date and commit."""
    machine = results.machine
    versions = [f"{name} {value}" for name, value in machine.items() if value and name not in _NO_VERSION]
    return f"{results.device}; {', '.join(versions)}; {_when(results)}."


def _when(results: Results) -> str:
    """The days and the commits: rows of several runs lie side by side where nothing has changed that they depend on."""
    runs = {(row.date, row.commit) for row in results.rows} or {(None, None)}
    machine = results.machine
    found = sorted((str(date or machine.get("date")), str(commit or machine.get("commit"))) for date, commit in runs)
    days = list(dict.fromkeys(date.partition("T")[0] for date, _ in found))
    commits = list(dict.fromkeys(commit for _, commit in found))
    first_and_last = " to ".join(dict.fromkeys((days[0], days[-1])))
    return f"measured {first_and_last} at commit{'s' * (len(commits) > 1)} {', '.join(commits)}"


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """By size, then by cell, type and options; they were measured in an order of chance."""
    return sorted(rows, key=lambda row: (row.T, row.H, row.B, *map(_place, (row.cell, row.kind, row.mode)), row.resets))


_ORDER = ("rnn", "gru", "lstm", "float32", "tf32", "bfloat16", "float16", *MODES)


def _place(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


_NO_VERSION = ("processor", "architecture", "cores", "usable_cores", "system", "date", "commit")


def markdown(title: str, results: Results, every: int) -> str:
    """For the documents: what it was measured on, the summary, and a line a case. every: cases that the part has."""
    lines = [f"### {title}", "", machine_in_words(results), ""]
    if not results.complete:
        lines += [f"Measured so far: {len(results.rows)} of {every} cases.", ""]
    lines += [*summaries(results.rows), ""]
    lines += [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    lines += [_line(_cells(row)) for row in _in_order(results.rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> list[str]:
    options = ["ragged"] * row.ragged + [f"{row.resets:g} resets"] * bool(row.resets) + ["projected"] * row.projected
    return [
        row.cell,
        row.kind,
        f"{row.T},{row.B},{row.I},{row.H}",
        ", ".join([row.mode, *options]),
        _number(row.ours_step_us),
        _number(row.torch_step_us),
        _number(row.ratio),
        "-" if row.error is None else f"{row.error:.0e}",
        "-" if row.plan is None else _strategy(row.plan),
        "" if row.status == "ok" else " ".join(filter(None, [row.status + ":" * bool(row.remark), row.remark])),
    ]


def _strategy(plan: str) -> str:
    """The strategy of the forward direction; the results have the whole plan."""
    return plan.partition(": ")[2].partition(":")[0]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
