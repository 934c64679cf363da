"""How far a training run has come: all of its state that is plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from rnn_gpu.lm.schedule import Halving

__all__ = ["Epoch", "Progress"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training part. Losses in nats per token; seconds since the start of training."""

    epoch: int
    training: float
    validation: float
    learning_rate: float
    seconds: float


@dataclass
class Progress:
    """How far a training run has come.

    schedule: decides the learning rate. epochs: those done. chunk: chunks done of the current one; loss, tokens: of
    those chunks, summed, the loss in nats. seconds: time used so far. Raises ValueError for what cannot be.
    """

    schedule: Halving
    chunk: int = 0
    loss: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        counts = (self.chunk, self.tokens, self.schedule.poor, *(epoch.epoch for epoch in self.epochs))
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError("'progress': expected whole numbers, at least 0, for what is counted")
        amounts = [self.loss, self.seconds, self.schedule.rate]
        amounts += [value for e in self.epochs for value in (e.training, e.validation, e.learning_rate, e.seconds)]
        if not all(isinstance(amount, int | float) and math.isfinite(amount) for amount in amounts):
            raise ValueError("'progress': expected numbers for losses, rates and seconds")
        if not isinstance(self.schedule.best, float if self.epochs else NoneType):
            raise ValueError("'progress': expected a best loss if, and only if, there was an epoch")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Progress:
        """Make one of `dataclasses.asdict(progress)`. Raises KeyError, TypeError or ValueError for others."""
        rest = {name: value for name, value in values.items() if name not in ("schedule", "epochs")}
        return cls(Halving(**values["schedule"]), epochs=[Epoch(**epoch) for epoch in values["epochs"]], **rest)

    def add_chunk(self, loss: float, tokens: int) -> None:
        """Take note of a chunk's loss, summed over its tokens."""
        self.chunk += 1
        self.loss += loss
        self.tokens += tokens

    def add_epoch(self, validation: float) -> bool:
        """Close an epoch with its validation loss. Return whether it is the lowest so far."""
        rate = self.schedule.rate
        self.epochs.append(Epoch(len(self.epochs) + 1, self.loss / self.tokens, validation, rate, self.seconds))
        self.chunk, self.loss, self.tokens = 0, 0.0, 0
        return self.schedule.update(validation)
