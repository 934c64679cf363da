"""What is told of a run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from rnn_gpu.lm.progress import Epoch
from rnn_gpu.lm.trainer import Trainer

__all__ = ["Listener", "Pace", "Status"]

_RECENT = 50
"""Chunks over which the loss that is shown is averaged."""


@dataclass(frozen=True)
class Status:
    """Where a run is.

    epoch: the current one, from 1; chunk: chunks of it that are done, out of `chunks`. loss: the mean of the last
    chunks, in nats per token. rate: tokens a second. done: how much of the run is, from 0 to 1, by the nearer of its
    limits; seconds_left: the same in time.
    """

    epoch: int
    chunk: int
    chunks: int
    loss: float
    rate: float
    done: float
    seconds_left: float

    @classmethod
    def of(cls, trainer: Trainer, rate: float) -> Self:
        """Describe a trainer that has done at least one chunk, at `rate` tokens a second."""
        settings, progress, chunks = trainer.settings, trainer.progress, trainer.chunks_per_epoch
        done, left = [], []
        if settings.epochs is not None:
            so_far, total = len(progress.epochs) * chunks + progress.chunk, settings.epochs * chunks
            done.append(so_far / total)
            left.append((total - so_far) * settings.batch * settings.sequence / rate)
        if settings.seconds is not None:
            done.append(progress.seconds / settings.seconds)
            left.append(settings.seconds - progress.seconds)
        recent = trainer.losses[-_RECENT:]
        return cls(
            epoch=len(progress.epochs) + 1,
            chunk=progress.chunk,
            chunks=chunks,
            loss=sum(recent) / len(recent),
            rate=rate,
            done=min(1.0, max(done)),
            seconds_left=max(0.0, min(left)),
        )


class Listener(Protocol):
    """Is told how a run goes on: `status` after each chunk, `epoch` after each epoch."""

    def status(self, status: Status) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...


class Pace:
    """Tokens a second, recent ones counting more."""

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Take note of a chunk."""
        self._tokens = 0.95 * self._tokens + tokens
        self._seconds = 0.95 * self._seconds + seconds

    @property
    def rate(self) -> float:
        """Tokens a second, after at least one chunk."""
        return self._tokens / self._seconds
