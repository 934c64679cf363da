"""`rnn-gpu bench`: how fast the kernels are here, side by side with others."""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from rich.progress import BarColumn, Progress, TextColumn

from rnn_gpu import files
from rnn_gpu.bench import blas, machine, table
from rnn_gpu.bench.gpu.suites import PARTS as GPU_PARTS
from rnn_gpu.bench.measure import measure
from rnn_gpu.bench.peers import PEERS, Peer, peer
from rnn_gpu.bench.report import Report
from rnn_gpu.bench.shapes import MODES, Shape
from rnn_gpu.bench.suites import SUITES, Suite
from rnn_gpu.cli.backend import check_backend
from rnn_gpu.cli.console import Console
from rnn_gpu.cli.interrupt import Interrupt
from rnn_gpu.cli.options import add_option
from rnn_gpu.errors import ArgumentError, BackendError
from rnn_gpu.lm.cell_names import find_cell, nearest
from rnn_gpu.lm.settings import Rule
from rnn_gpu.threads import get_threads

__all__ = ["configure", "run"]

_Name = TypeVar("_Name", bound=str)

_MOST = 1_000_000
_THREADS = Rule(int, "threads for each of those measured", low=1, high=1024)
_SECONDS = Rule(float, "seconds to measure each of them in each case", above=0, high=3600)
_MINUTES = Rule(float, "minutes after which no further case is begun", above=0, high=10_000)
_LINE_EVERY = 15.0
"""Seconds between two lines of progress where there is no terminal."""

GPU = "gpu"
"""The suite for CUDA devices, whose parts are measured another way."""

_WIDE = 200
"""Columns for the tables where there is no terminal."""

_EXAMPLES = """examples:
  rnn-gpu bench --quick                                     a first impression, a minute or two
  rnn-gpu bench --json cpu.json --plots pictures            the whole suite, ten minutes and more
  rnn-gpu bench --cells lstm gru --modes train --threads 1  a part of it
  rnn-gpu bench --suite torch --modes train                 rnn_gpu.torch's modules beside torch.nn's
  rnn-gpu bench --cells mine:my_cell --shapes 64,32,128,256 your own cell, from mine.py in this folder
  rnn-gpu bench --suite gpu --results results --minutes 9   on a CUDA device; again, to go on from there

A ratio is how many times as long the other takes: above 1, ours is faster. Results are compared with a float64
reference first; one that is wrong is given no speed, and the status is then 1. Leave the machine alone meanwhile.
Ctrl-C ends the measuring, and shows what there is."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "Time the kernels side by side with those of other libraries, in one process, in turns, on the same numbers "
        "with the same threads."
    )
    parser.epilog = _EXAMPLES
    names = ", ".join((*SUITES, GPU))
    parser.add_argument("--suite", default="cpu", metavar="NAME", help=f"one of {names} (default: cpu)")
    parser.add_argument("--quick", action="store_true", help="the suite's shorter form")
    parser.add_argument("--backend", metavar="NAME", help="the backend to measure (default: the suite's)")
    add_option(parser, "threads", _THREADS, "the processors there are, or NUMBA_NUM_THREADS")
    add_option(parser, "seconds", _SECONDS, "the suite's")
    part = parser.add_argument_group("measuring a part")
    part.add_argument("--cells", dest="cell", nargs="+", metavar="CELL", help="these cells, or your own as module:cell")
    part.add_argument("--shapes", nargs="+", metavar="T,B,I,H", help="these shapes: steps, batch, inputs, units")
    part.add_argument("--modes", nargs="+", metavar="MODE", help=f"of {', '.join(MODES)}")
    part.add_argument("--peers", nargs="+", metavar="PEER", help=f"of {', '.join(PEERS)} (default: all installed)")
    place = parser.add_argument_group("keeping the results")
    place.add_argument("--json", metavar="PATH", help="write them to this file, with a description of the machine")
    place.add_argument("--plots", metavar="FOLDER", help="draw speed.png, growth.png and roofline.png into this folder")
    gpu = parser.add_argument_group("on a CUDA device, with --suite gpu")
    gpu.add_argument("--parts", nargs="+", metavar="PART", help=f"of {', '.join(GPU_PARTS)} (default: all)")
    gpu.add_argument(
        "--results", metavar="FOLDER", help="keep the results of each part in a file there, and go on with those it has"
    )
    add_option(gpu, "minutes", _MINUTES, "until all is measured")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print what came of it."""
    if arguments.suite == GPU:
        from rnn_gpu.cli import bench_gpu  # noqa: PLC0415 (imported where it is asked for)

        return bench_gpu.run(arguments)
    for name in ("parts", "results", "minutes"):
        if getattr(arguments, name) is not None:
            raise ArgumentError(name, "--suite gpu beside it", f"--suite {arguments.suite}")
    suite = _suite(arguments)
    check_backend(suite.backend)
    if suite.modules and importlib.util.find_spec("torch") is None:
        raise ArgumentError(
            "suite", "torch, whose modules it measures (pip install 'rnn_gpu[torch]')", "none installed"
        )
    peers, notes = _peers(suite, arguments.peers is not None)
    paths = _paths(arguments)
    report = Report(
        suite=arguments.suite,
        quick=arguments.quick,
        backend=suite.backend,
        threads=arguments.threads or get_threads(),
        machine=machine.describe(),
        notes=notes,
    )
    console = Console()
    _describe(console, report)
    with Interrupt() as interrupt, _Display(console) as display:
        measure(suite, peers, report, display, interrupt.requested)
    _print(console, report)
    _write(console, report, paths)
    if not report.complete:
        console.print("Interrupted: this is what was measured so far.")
        return 130
    return 0 if report.all_right else 1


def _suite(arguments: argparse.Namespace) -> Suite:
    """The suite as the command line cuts it."""
    if arguments.suite not in SUITES:
        found = repr(arguments.suite) + nearest(arguments.suite, (*SUITES, GPU))
        raise ArgumentError("suite", f"one of {', '.join((*SUITES, GPU))}", found)
    whole, quick = SUITES[arguments.suite]
    suite = (quick if arguments.quick else whole).narrowed(
        None if arguments.cell is None else [find_cell(name) for name in _words(arguments.cell)],
        None if arguments.shapes is None else [_shape(text) for text in dict.fromkeys(arguments.shapes)],
        None if arguments.modes is None else _known("modes", _words(arguments.modes), MODES),
    )
    if arguments.backend is not None:
        suite = replace(suite, backend=arguments.backend)
    if arguments.peers is not None:
        suite = replace(suite, peers=_known("peers", _words(arguments.peers), tuple(PEERS)))
    if arguments.seconds is not None:
        suite = replace(suite, plan=replace(suite.plan, seconds=arguments.seconds))
    return suite


def _words(given: Sequence[str]) -> list[str]:
    """The words, each once; commas separate them too."""
    return list(dict.fromkeys(word for text in given for word in text.split(",") if word))


def _known(argument: str, given: Sequence[str], names: Sequence[_Name]) -> list[_Name]:
    for name in given:
        if name not in names:
            raise ArgumentError(argument, f"some of {', '.join(names)}", repr(name) + nearest(name, names))
    return [name for name in names if name in given]


def _shape(text: str) -> Shape:
    try:
        shape = Shape(*map(int, text.split(",")))
    except (TypeError, ValueError):
        shape = None
    if shape is None or not all(1 <= size <= _MOST for size in shape):
        raise ArgumentError("shapes", f"T,B,I,H, four whole numbers from 1 to {_MOST}", repr(text))
    return shape


def _peers(suite: Suite, named: bool) -> tuple[list[Peer], list[str]]:
    """The peers that can be used, and what to say about the others. Raises BackendError for one asked for by name."""
    usable, notes = [], []
    for name in suite.peers:
        if name == suite.backend:
            continue
        candidate = peer(name)
        reason = candidate.unavailable()
        if reason is None:
            usable.append(candidate)
        elif named:
            raise BackendError(f"--peers: {name} cannot be used here: {reason}")
        else:
            notes.append(f"Not measured: {name}, as {reason}.")
    return usable, notes


def _paths(arguments: argparse.Namespace) -> dict[str, Path]:
    """Where to write what, by option."""
    paths = {name: Path(getattr(arguments, name)) for name in ("json", "plots") if getattr(arguments, name) is not None}
    if "json" in paths:
        files.check_writable(paths["json"], "json")
    if "plots" in paths:
        if importlib.util.find_spec("matplotlib") is None:
            raise ArgumentError("plots", "matplotlib to draw with (pip install 'rnn_gpu[plot]')", "none installed")
        try:
            paths["plots"].mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError("plots", "a folder, or a place for one", f"{arguments.plots!r}: {error}") from error
        files.check_writable(paths["plots"] / "speed.png", "plots")
    return paths


def _describe(console: Console, report: Report) -> None:
    remark = blas.threads_remark(report.threads)
    if remark is not None:
        report.notes.append(remark + ".")
    if report.threads > int(report.machine["usable_cores"]):
        report.notes.append("There are more threads than cores for them: times will vary.")
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    console.print(f"{table.in_words(report.machine)}\n{report.backend} and all others with {threads}, float32")
    for note in report.notes:
        console.print(note)


def _print(console: Console, report: Report) -> None:
    """The tables; where there is no terminal, as wide as they come."""
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    for each in table.tables(report):
        console.print(each)
    doubtful = len({(row.cell, row.shape, row.what) for row in report.rows if row.disturbed})
    if doubtful:
        console.print(f"Other processes were at work during {doubtful} of the cases: their times are doubtful.")
    if report.sgemm_gflops:
        console.print(f"NumPy multiplies large float32 matrices at up to {report.sgemm_gflops:.0f} GFLOP/s here.")


def _write(console: Console, report: Report, paths: dict[str, Path]) -> None:
    if "json" in paths:
        files.write(paths["json"], report.json().encode())
        console.print(f"The results are in {paths['json']}.")
    if "plots" in paths:
        from rnn_gpu.bench.charts import CHARTS  # noqa: PLC0415 (matplotlib is optional, and slow to import)

        for name, draw in CHARTS.items():
            try:
                picture = draw(report)
            except ValueError as reason:
                console.print(f"There is no picture of the {name}: {reason}.")
                continue
            path = paths["plots"] / f"{name}.png"
            files.write(path, picture)
            console.print(f"The picture of the {name} is in {path}.")


class _Display:
    """Shows what is measured: a bar on a terminal, a line now and then elsewhere. Nothing runs between its calls."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line_at = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.description}"),
                console=console, transient=True, auto_refresh=False,
            )  # fmt: skip
            self._task = self._bar.add_task("starting", total=1)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=what, completed=done, total=total, refresh=True)
        elif time.monotonic() - self._line_at >= _LINE_EVERY:
            self._line_at = time.monotonic()
            self._console.print(f"{done}/{total}  {what}")
            self._console.file.flush()
