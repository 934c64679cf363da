"""The learning rate and the end of training, as validation decides them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Halving"]


@dataclass
class Halving:
    """Halve the rate after every epoch without a significant improvement; stop after several such in a row.

    The schedule of Mikolov et al. (2010), section 2, with more patience. rate: the learning rate. best: the lowest
    validation loss so far, in nats per token, None before the first. poor: epochs in a row without a significant
    improvement.
    """

    rate: float
    best: float | None = None
    poor: int = 0

    significant: ClassVar[float] = 0.003
    """The least relative improvement that counts."""
    patience: ClassVar[int] = 4

    def update(self, validation: float) -> bool:
        """Take note of an epoch's validation loss. Return whether it is the lowest so far."""
        before = self.best
        if before is None or validation < before * (1.0 - self.significant):
            self.poor = 0
        else:
            self.poor += 1
            self.rate /= 2.0
        if before is None or validation < before:
            self.best = validation
            return True
        return False

    @property
    def finished(self) -> bool:
        """Whether there is no more to be gained."""
        return self.poor >= self.patience
