"""Showing how a training run goes: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn

from rnn_gpu.cli.console import Console
from rnn_gpu.lm.measure import figure, measure
from rnn_gpu.lm.progress import Epoch
from rnn_gpu.lm.status import Status

__all__ = ["Display", "clock"]

_LINE_EVERY = 15.0
"""Seconds between two lines where there is no terminal."""


def clock(seconds: float) -> str:
    """Write seconds as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display:
    """The listener of a run that writes to a console. unit: "char" or "word"."""

    def __init__(self, console: Console, unit: str) -> None:
        self._console = console
        self._unit = unit
        self._live: Progress | None = None
        self._line_at = time.monotonic()
        if console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[figures]}"),
                console=console, transient=True, expand=True,
            )  # fmt: skip
            self._task = self._live.add_task("starting", total=1.0, figures="")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def status(self, status: Status) -> None:
        """Show where the run is."""
        where = f"epoch {status.epoch}, {status.chunk}/{status.chunks}"
        figures = (
            f"{figure(self._unit, status.loss):.3f} {measure(self._unit)}  "
            f"{status.rate:,.0f} {self._unit}s/s  {clock(status.seconds_left)} left"
        )
        if self._live is not None:
            self._live.update(self._task, completed=status.done, description=where, figures=figures)
        elif time.monotonic() - self._line_at >= _LINE_EVERY:
            self._line_at = time.monotonic()
            self._print(f"{where}  {figures}")

    def epoch(self, epoch: Epoch) -> None:
        """Show an epoch's figures."""
        self._line_at = time.monotonic()
        training, validation = (figure(self._unit, loss) for loss in (epoch.training, epoch.validation))
        self._print(
            f"epoch {epoch.epoch} done: training {training:.3f}, validation {validation:.3f} {measure(self._unit)}, "
            f"learning rate {epoch.learning_rate:g}, {clock(epoch.seconds)}"
        )

    def _print(self, line: str) -> None:
        self._console.print(line)
        self._console.file.flush()
