"""The language model: embedding -> recurrent layers -> softmax over the vocabulary.

Mikolov, Karafiát, Burget, Černocký & Khudanpur (2010), with an embedding and with any cell and number of layers.
Dropout, in training, acts on the embedding's, each layer's and so the softmax's input (Zaremba et al. 2014).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import rnn_gpu
from rnn_gpu import stack
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.lm import embedding, softmax
from rnn_gpu.lm.assign import assign
from rnn_gpu.lm.corpus import Chunk
from rnn_gpu.stack import States
from rnn_gpu.weights import Weights

__all__ = ["Gradients", "LanguageModel"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Gradients:
    """Of one chunk. loss: in nats, summed over its tokens; parameters: gradients, by name, of the loss per token;
    states: the last ones, with which the next chunk goes on."""

    loss: float
    parameters: dict[str, Array]
    states: States


class LanguageModel:
    """The parameters, and what is computed with them.

    embedding (V, H), layers (Weights each), softmax_w (V, H) and softmax_b (V,), for V tokens and H units.
    """

    def __init__(self, cell: Cell, size: int, hidden: int, layers: int, seed: int, dtype: DTypeLike = "float32"):
        """Draw parameters for a vocabulary of `size` tokens.

        The layers' are drawn as torch draws them, the embedding's uniformly in +-1, the softmax's in +-1/sqrt(H),
        with biases of 0.
        """
        seeds = np.random.SeedSequence(seed).generate_state(layers + 1)
        rng = np.random.default_rng(seeds[-1])
        bound = hidden**-0.5
        self.cell = cell
        self.embedding: Array = rng.uniform(-1.0, 1.0, (size, hidden)).astype(dtype)
        self.layers: tuple[Weights, ...] = tuple(
            rnn_gpu.init_weights(cell, input_size=hidden, hidden_size=hidden, dtype=dtype, seed=int(layer_seed))
            for layer_seed in seeds[:-1]
        )
        self.softmax_w: Array = rng.uniform(-bound, bound, (size, hidden)).astype(dtype)
        self.softmax_b: Array = np.zeros(size, dtype)

    @property
    def parameters(self) -> dict[str, Array]:
        """All parameters by name. They are the model's own arrays: writing to them changes the model."""
        return _named(self.embedding, self.layers, self.softmax_w, self.softmax_b)

    def with_parameters(self, parameters: Mapping[str, Array]) -> LanguageModel:
        """Return a model of the same shape with copies of other parameters. Raises FileFormatError, as `assign`."""
        new = copy.copy(self)
        new.embedding = self.embedding.copy()
        new.layers = tuple(layer.map(np.copy) for layer in self.layers)
        new.softmax_w, new.softmax_b = self.softmax_w.copy(), self.softmax_b.copy()
        assign(new.parameters, parameters)
        return new

    def loss(self, chunk: Chunk, states: States | None = None, backend: str | None = None) -> tuple[float, States]:
        """Return the loss of a chunk, in nats, summed over its tokens, and the last states."""
        x = self.embedding[chunk.inputs]
        y, last, *_ = stack.forward(self.cell, x, self.layers, states, backend=backend, save=False)
        return softmax.cross_entropy(_rows(y), self.softmax_w, self.softmax_b, chunk.targets.ravel()), last

    def gradients(
        self,
        chunk: Chunk,
        states: States | None = None,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
        backend: str | None = None,
    ) -> Gradients:
        """Return loss and gradients of a chunk. None flows back into `states`: BPTT is truncated there.

        dropout: a probability in [0, 1); above 0 it needs `rng`.
        """
        x = self.embedding[chunk.inputs]
        below = above = None
        if dropout > 0.0:
            below = stack.dropout_mask(x.shape, x.dtype, dropout, rng)
            x = x * below
        y, last, tape, _ = stack.forward(
            self.cell, x, self.layers, states, dropout=dropout, rng=rng, backend=backend, save=True
        )
        if dropout > 0.0:
            above = stack.dropout_mask(y.shape, y.dtype, dropout, rng)
            y = y * above

        targets = chunk.targets.ravel()
        top = softmax.cross_entropy_gradients(
            _rows(y), self.softmax_w, self.softmax_b, targets, scale=1.0 / len(targets)
        )
        dy = top.y.reshape(y.shape)
        if above is not None:
            dy *= above
        middle = stack.backward(tape, dy)
        dx = middle.x if below is None else middle.x * below
        bottom = embedding.gradient(chunk.inputs.ravel(), _rows(dx), len(self.embedding))
        return Gradients(top.loss, _named(bottom, middle.layers, top.w, top.b), last)

    def frozen(self) -> LanguageModel:
        """Return a model whose layers cannot change, which steps faster."""
        new = copy.copy(self)
        new.layers = tuple(layer.frozen() for layer in self.layers)
        return new

    def step(self, ids: NDArray[np.int32], states: States | None, backend: str | None = None) -> tuple[Array, States]:
        """Read one token in each row, ids (B,), and return the logits (B, V) of the next one, and the new states."""
        new = stack.step(self.cell, self.embedding[ids], self.layers, states, backend=backend)
        return new[-1][0] @ self.softmax_w.T + self.softmax_b, new


def _named(embedding: Array, layers: tuple[Weights, ...], softmax_w: Array, softmax_b: Array) -> dict[str, Array]:
    named = {"embedding": embedding}
    for number, layer in enumerate(layers):
        named.update((f"layers.{number}.{name}", array) for name, array in layer.items())
    return {**named, "softmax.w": softmax_w, "softmax.b": softmax_b}


def _rows(array: Array) -> Array:
    """(T, B, H) as (T*B, H)."""
    return array.reshape(-1, array.shape[-1])
