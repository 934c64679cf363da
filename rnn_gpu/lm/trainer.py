"""Training by truncated backpropagation through time, chunk by chunk, in a form that can stop and go on anywhere.

Mikolov et al. (2010): the text runs in parallel streams, each chunk starts in the states in which the one before it
ended, and an epoch starts in zero states. All that a run depends on is in `Trainer.state`, `Trainer.tensors` and the
settings, so that a run restored from them gives the same bits as one that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.errors import FileFormatError, RnnGpuError
from rnn_gpu.lm import corpus as corpora
from rnn_gpu.lm.assign import assign
from rnn_gpu.lm.clipping import clip_norm
from rnn_gpu.lm.corpus import Corpus
from rnn_gpu.lm.evaluate import evaluate
from rnn_gpu.lm.model import LanguageModel
from rnn_gpu.lm.optimizers import OPTIMIZERS
from rnn_gpu.lm.progress import Epoch, Progress
from rnn_gpu.lm.schedule import Halving
from rnn_gpu.lm.settings import Settings
from rnn_gpu.stack import States

__all__ = ["DivergedError", "Trainer"]

Arrays = Mapping[str, NDArray[Any]]


class DivergedError(RnnGpuError):
    """The loss or its gradient is not finite any more."""


class Trainer:
    """A model, an optimiser and a place in the text. `step` goes on by one chunk, `end_epoch` closes an epoch.

    model, corpus, settings: what is trained, on what and how.
    progress: how far training has come. losses: the loss of every chunk so far, in nats per token.
    best: the parameters of the epoch with the lowest validation loss; None before the first.
    chunks_per_epoch: the number of chunks in the training part.
    """

    def __init__(self, settings: Settings, model: LanguageModel, corpus: Corpus) -> None:
        """Begin before the first chunk. Raises ArgumentError, named "FILE", for a text shorter than one chunk."""
        corpus.check_length(settings.unit, settings.batch, settings.sequence)
        self.settings = settings
        self.model = model
        self.corpus = corpus
        self.progress = Progress(Halving(settings.learning_rate))
        self.losses: list[float] = []
        self.best: dict[str, NDArray[Any]] | None = None
        self._optimizer = OPTIMIZERS[settings.optimizer](model.parameters)
        self._rng = np.random.default_rng(settings.seed)
        self._states: States | None = None
        self._streams = corpora.streams(corpus.training, settings.batch)
        self.chunks_per_epoch = corpora.chunk_count(self._streams, settings.sequence)

    @property
    def epoch_complete(self) -> bool:
        """Whether all chunks of the epoch are done, and `end_epoch` comes next."""
        return self.progress.chunk == self.chunks_per_epoch

    def step(self) -> int:
        """Train on the next chunk. Return its number of tokens. Raises DivergedError, leaving the parameters as is."""
        settings, progress = self.settings, self.progress
        chunk = corpora.chunk_at(self._streams, settings.sequence, progress.chunk)
        with np.errstate(over="ignore", invalid="ignore"):
            result = self.model.gradients(chunk, self._states, settings.dropout, self._rng, settings.backend)
            norm = clip_norm(result.parameters, settings.clip)
        if not math.isfinite(result.loss + norm):
            raise DivergedError(
                f"the loss or its gradient is no longer finite, in chunk {progress.chunk + 1} of epoch "
                f"{len(progress.epochs) + 1}: a lower learning rate or clip may help"
            )
        self._optimizer.step(self.model.parameters, result.parameters, progress.schedule.rate)
        self._states = result.states
        self.losses.append(result.loss / chunk.targets.size)
        progress.add_chunk(result.loss, chunk.targets.size)
        return chunk.targets.size

    def end_epoch(self) -> Epoch:
        """Validate, adjust the learning rate, and go back to the start of the text.

        An epoch that does not improve on the best is undone: training goes on from the best parameters.
        Raises DivergedError if the validation loss is not finite.
        """
        validation = evaluate(self.model, self.corpus.validation, self.settings)
        if not math.isfinite(validation):
            raise DivergedError(f"the validation loss of epoch {len(self.progress.epochs) + 1} is not finite")
        if self.progress.add_epoch(validation):
            self.best = {name: array.copy() for name, array in self.model.parameters.items()}
        elif self.best is not None:
            assign(self.model.parameters, self.best)
        self._states = None
        return self.progress.epochs[-1]

    def chosen(self) -> tuple[Arrays, float]:
        """Return the best parameters there are, those in the middle of an epoch included, and their validation loss."""
        best, loss = self.best, self.progress.schedule.best
        if best is not None and loss is not None and self.progress.chunk == 0:
            return best, loss
        validation = evaluate(self.model, self.corpus.validation, self.settings)
        if best is not None and loss is not None and loss <= validation:
            return best, loss
        return self.model.parameters, validation

    @property
    def state(self) -> dict[str, Any]:
        """All of the training's state that is not an array, in values that JSON has."""
        return {
            **asdict(self.progress),
            "optimizer_steps": self._optimizer.steps,
            "rng": dict(self._rng.bit_generator.state),
        }

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """All of the training's state that is arrays, by name."""
        tensors = {f"current.{name}": array for name, array in self.model.parameters.items()}
        tensors.update((f"optimizer.{name}", array) for name, array in self._optimizer.moments.items())
        if self.best is not None:
            tensors.update((f"best.{name}", array) for name, array in self.best.items())
        for number, layer in enumerate(self._states or ()):
            tensors.update((f"states.{number}.{place}", state) for place, state in enumerate(layer))
        return {**tensors, "losses": np.array(self.losses, np.float64)}

    def restore(self, state: Mapping[str, Any], tensors: Arrays) -> None:
        """Go on from `state` and `tensors` of a trainer with the same settings.

        Raises FileFormatError, ValueError, TypeError or KeyError for others.
        """
        rest = dict(state)
        self._optimizer.steps = int(rest.pop("optimizer_steps"))
        self._rng.bit_generator.state = rest.pop("rng")
        self.progress = Progress.of(rest)
        if self.progress.chunk > self.chunks_per_epoch:
            raise FileFormatError(
                f"expected at most {self.chunks_per_epoch} chunks done of an epoch, found {self.progress.chunk}"
            )
        assign(self.model.parameters, _part(tensors, "current."))
        assign(self._optimizer.moments, _part(tensors, "optimizer."))
        self.best = None
        if self.progress.epochs:
            self.best = {name: np.empty_like(array) for name, array in self.model.parameters.items()}
            assign(self.best, _part(tensors, "best."))
        self._states = self._restored_states(_part(tensors, "states.")) if self.progress.chunk else None
        self.losses = list(map(float, tensors["losses"]))

    def _restored_states(self, tensors: Arrays) -> States:
        shape, dtype = (self.settings.batch, self.settings.hidden), self.model.embedding.dtype
        places = range(len(self.model.cell.states))
        names = [[f"{layer}.{place}" for place in places] for layer in range(self.settings.layers)]
        states = {name: np.empty(shape, dtype) for layer in names for name in layer}
        assign(states, tensors)
        return tuple(tuple(states[name] for name in layer) for layer in names)


def _part(tensors: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
