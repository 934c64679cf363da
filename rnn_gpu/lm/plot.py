"""The learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rnn_gpu.lm.measure import figure, measure
from rnn_gpu.lm.progress import Epoch

__all__ = ["draw_loss"]

_POINTS = 400
"""Points of the training curve; each is the mean over its share of the chunks."""


def draw_loss(path: Path, unit: str, losses: Sequence[float], epochs: Sequence[Epoch], per_epoch: int) -> None:
    """Draw training and validation figure over epochs into a PNG file.

    losses: of each chunk, in nats per token; per_epoch: chunks in an epoch. Raises OSError.
    """
    share = max(1, len(losses) // _POINTS)
    groups = [losses[first : first + share] for first in range(0, len(losses), share)]
    x = [(number * share + len(group) / 2) / per_epoch for number, group in enumerate(groups)]
    chart = Figure(figsize=(7, 4), layout="constrained")
    axes = chart.add_subplot()
    axes.plot(x, [figure(unit, sum(group) / len(group)) for group in groups], lw=1, label="training")
    axes.plot([e.epoch for e in epochs], [figure(unit, e.validation) for e in epochs], "o-", label="validation")
    axes.set(xlabel="epoch", ylabel=measure(unit))
    if unit == "word":
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    chart.savefig(path, dpi=150)
