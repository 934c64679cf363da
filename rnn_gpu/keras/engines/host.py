"""A layer's run on NumPy arrays, for the backends of Keras that call back to the host.

A callback must not keep anything from one call for another, so the backward pass runs the forward pass again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnn_gpu import functional
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.weights import Weights

__all__ = ["backward", "forward"]

Array = np.ndarray[Any, Any]


def forward(
    cell: Cell,
    x: Array,
    names: Sequence[str],
    weights: Sequence[Array],
    initial: Sequence[Array],
    lengths: Array | None,
) -> list[Array]:
    """y (T, B, H) and the last states (B, H), all of x's dtype. names: those of the weights, as in `Weights`."""
    found = functional.forward(cell, x, _weights(names, weights), tuple(initial), lengths, save=False)
    return [found.y, *(state.astype(x.dtype, copy=False) for state in found.last)]


def backward(
    cell: Cell,
    x: Array,
    names: Sequence[str],
    weights: Sequence[Array],
    initial: Sequence[Array],
    lengths: Array | None,
    dy: Array,
    dlast: Sequence[Array],
) -> list[Array]:
    """The gradients of x, of each of the weights and of each of the initial states, in their dtypes."""
    tape = functional.forward(cell, x, _weights(names, weights), tuple(initial), lengths).tape
    gradients = functional.backward(tape, dy, tuple(dlast))
    of_weights = dict(gradients.weights.items())
    states = [state.astype(x.dtype, copy=False) for state in gradients.initial]
    return [gradients.x, *(of_weights[name] for name in names), *states]


def _weights(names: Sequence[str], weights: Sequence[Array]) -> Weights:
    return Weights.of(dict(zip(names, weights, strict=True)))
