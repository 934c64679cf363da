"""Several recurrent layers, one on top of the other, with dropout between them.

Each layer is one call of `rnn_gpu.forward`; its output y (T, B, H) is the next layer's x. Dropout acts on these
connections only, never on the recurrent ones (Zaremba, Sutskever & Vinyals 2014), and is inverted: what is kept is
divided by the probability of being kept, so that nothing needs scaling later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_gpu import functional
from rnn_gpu.arrays import cast_like
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.weights import Weights

__all__ = ["StackGradients", "StackTape", "States", "backward", "dropout_mask", "forward", "step"]

Array = Any
"""An array of any supported library."""

States = tuple[tuple[Array, ...], ...]
"""For each layer, from the bottom, a tuple of (B, H) arrays, one a state of the cell."""


@dataclass(frozen=True, eq=False)
class StackTape:
    """What `backward` needs of one `forward`: a tape for each layer, and the dropout mask, or None, above each."""

    tapes: tuple[Any, ...]
    masks: tuple[Array | None, ...]


@dataclass(frozen=True, eq=False)
class StackGradients:
    """x (T, B, I); layers, a Weights for each layer; initial, shaped as `States`."""

    x: Array
    layers: tuple[Weights, ...]
    initial: States


def dropout_mask(shape: tuple[int, ...], dtype: Any, dropout: float, rng: Any) -> Array:
    """Return an array of 0, with probability `dropout`, and of 1 / (1 - dropout), of the library of `rng`.

    rng: a numpy.random.Generator, or any object with its `random(shape, dtype=)`, such as cupy.random.Generator.
    """
    kept = rng.random(shape, dtype=np.float32) >= dropout
    return (kept / (1.0 - dropout)).astype(dtype)


def forward(
    cell: Cell,
    x: Array,
    layers: Sequence[Weights],
    initial: Sequence[Sequence[Array] | None] | None = None,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    *,
    dropout: float = 0.0,
    rng: Any = None,
    backend: str | None = None,
    save: bool = True,
) -> tuple[Array, States, StackTape]:
    """Run `cell` over x (T, B, I) in every layer: y (T, B, H) of the top one, the last states, and a tape.

    initial: for each layer a tuple of (B, H) states, or None for zeros. lengths (B,), resets (T, B) and reverse
    apply to every layer, as in `rnn_gpu.forward`. dropout: the probability, in [0, 1), of dropping a value between
    two layers; above 0 it needs `rng` (see `dropout_mask`). save=False keeps nothing for `backward`.

    Raises ArgumentError, ArgumentTypeError and BackendError, the first for an `initial` of another number of layers.
    """
    starts = _per_layer("initial", initial, layers)
    if not 0.0 <= dropout < 1.0:
        raise ArgumentError("dropout", "a probability in [0, 1)", repr(dropout))
    if dropout > 0.0 and rng is None:
        raise ArgumentTypeError("rng", "a random generator, since dropout is above 0", "None")

    tapes, masks, last = [], [], []
    y = x
    for number, (weights, start) in enumerate(zip(layers, starts, strict=True)):
        y, states, tape = functional.forward(
            cell, y, weights, start, lengths=lengths, resets=resets, reverse=reverse, backend=backend, save=save
        )
        mask = None
        if dropout > 0.0 and number < len(layers) - 1:
            mask = dropout_mask(y.shape, y.dtype, dropout, rng)
            y = y * mask
        tapes.append(tape)
        masks.append(mask)
        last.append(tuple(states))
    return y, tuple(last), StackTape(tuple(tapes), tuple(masks))


def backward(
    tape: StackTape, dy: Array | None = None, dlast: Sequence[Sequence[Array | None] | None] | None = None
) -> StackGradients:
    """Return the gradients of a scalar of which dy (T, B, H) and dlast (as `States`) are the gradients.

    None, for dy, dlast, a layer of it or a state of a layer, stands for zeros.
    """
    dlasts = _per_layer("dlast", dlast, tape.tapes)
    gradients = []
    dx = dy
    for layer, mask, dstates in zip(reversed(tape.tapes), reversed(tape.masks), reversed(dlasts), strict=True):
        if mask is not None:
            dx = dx * mask
        if dx is None and all(state is None for state in dstates or ()):
            dx = _zeros_like_y(layer)
        result = functional.backward(layer, dx, dstates)
        dx = result.x
        gradients.append(result)
    gradients.reverse()
    return StackGradients(dx, tuple(g.weights for g in gradients), tuple(tuple(g.initial) for g in gradients))


def _zeros_like_y(tape: functional.Tape) -> Array:
    problem = tape.problem
    return problem.library.back(problem.library.zeros((problem.T, problem.B, problem.H), problem.dtype))


def step(
    cell: Cell, x: Array, layers: Sequence[Weights], states: States | None = None, *, backend: str | None = None
) -> States:
    """Take one time step: x (B, I) and the states, None for zeros, to the new states. The output is `result[-1][0]`."""
    new = []
    for weights, state in zip(layers, _per_layer("states", states, layers), strict=True):
        stepped = tuple(functional.step(cell, x, weights, state, backend=backend))
        x = cast_like(stepped[0], x)  # the states of 16-bit layers have 32 bits
        new.append(stepped)
    return tuple(new)


def _per_layer(argument: str, values: Iterable[Any] | None, layers: Sequence[Any]) -> list[Any]:
    """Return one value for each layer, None where there are none."""
    if not layers:
        raise ArgumentError("layers", "at least one layer", "none")
    if values is None:
        return [None] * len(layers)
    result = list(values)
    if len(result) != len(layers):
        raise ArgumentError(argument, f"a value for each of the {len(layers)} layers", str(len(result)))
    return result
