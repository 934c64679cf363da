"""Several recurrent layers, one on top of the other, in one direction or both, with dropout between them.

Each layer and direction is one call of `rnn_gpu.forward`; a layer's output y (T, B, H), or that of both its directions
side by side (T, B, 2*H), is the next layer's x. Dropout acts on these connections only, never on the recurrent ones
(Zaremba, Sutskever & Vinyals 2014), and is inverted: what is kept is divided by the probability of being kept, so that
nothing needs scaling later.

L layers, D directions (1 or 2). Whatever is there for each layer and direction lies in torch's order: layer 0 forward,
layer 0 backward, layer 1 forward ...; index layer * D + direction.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu import functional
from rnn_gpu.arrays import ArrayLibrary, cast_like
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.compiler.variants import with_output
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.problem import Gradients, describe
from rnn_gpu.resets import from_behind
from rnn_gpu.weights import Weights
from rnn_gpu.weights.core import FIELDS

__all__ = ["StackForward", "StackGradients", "StackTape", "States", "backward", "dropout_mask", "forward", "step"]

Array = Any
"""An array of any supported library."""

States = tuple[tuple[Array, ...], ...]
"""For each layer and direction, from the bottom, a tuple of (B, H) arrays, one a state of the cell."""


@dataclass(frozen=True, eq=False)
class StackTape:
    """What `backward` needs of one `forward`.

    tapes: for each layer, direction, and state whose every step was asked for, the tape of a call.
    masks: the dropout mask, or None, above each layer.
    """

    tapes: tuple[tuple[tuple[functional.Tape, ...], ...], ...]
    masks: tuple[Array | None, ...]

    @property
    def library(self) -> ArrayLibrary:
        """Where the arrays live that the stack was given."""
        return self.tapes[0][0][0].problem.library


class StackForward(NamedTuple):
    """y (T, B, D*H) of the top layer; the last states; the tape; and the states after each step.

    states: for each layer a (T, B, D*H) for each state of the cell, the first of which is that layer's output before
    dropout; empty unless asked for.
    """

    y: Array
    last: States
    tape: StackTape
    states: States


@dataclass(frozen=True, eq=False)
class StackGradients:
    """x (T, B, I); layers, a Weights for each layer and direction; initial, shaped as `States`."""

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
    bidirectional: bool = False,
    dropout: float = 0.0,
    rng: Any = None,
    masks: Sequence[Array] | None = None,
    all_states: bool = False,
    recompute: bool = False,
    backend: str | None = None,
    save: bool = True,
) -> StackForward:
    """Run `cell` over x (T, B, I) in every layer.

    layers: the Weights of each layer and direction. initial: for each a tuple of (B, H) states, or None for zeros.
    lengths (B,), resets (T, B) and reverse apply to every layer, as in `rnn_gpu.forward`. With both directions a reset
    before step t cuts the sequence between t-1 and t for either, so that pieces come out as if run apart.
    dropout: the probability, in [0, 1), of dropping a value between two layers; above 0 it needs `rng` (see
    `dropout_mask`). masks: in place of both, L-1 arrays (T, B, D*H) by which the layers' outputs are multiplied.
    all_states: also return every state after every step; each state but the first costs one more run of the layer.
    recompute, backend, save: as in `rnn_gpu.forward`.

    Raises ArgumentError, ArgumentTypeError and BackendError; ArgumentError also for an `initial` or `masks` of another
    number of layers, and for `reverse` with both directions.
    """
    n_directions = 2 if bidirectional else 1
    starts = _for_each("initial", initial, layers)
    if len(layers) % n_directions:
        raise ArgumentError("layers", "two Weights for each bidirectional layer", f"{len(layers)}")
    n_layers = len(layers) // n_directions
    if bidirectional and reverse:
        raise ArgumentError("reverse", "False, as a bidirectional stack runs both ways", "True")
    if not 0.0 <= dropout < 1.0:
        raise ArgumentError("dropout", "a probability in [0, 1)", repr(dropout))
    if dropout > 0.0 and rng is None and masks is None:
        raise ArgumentTypeError("rng", "a random generator, since dropout is above 0", "None")
    if masks is not None and len(masks) != n_layers - 1:
        raise ArgumentError("masks", f"{n_layers - 1} arrays, one between two layers", str(len(masks)))

    others = cell.states[1:] if all_states else ()
    variants = (cell, *[with_output(cell, state) for state in others])
    resets_back = None
    tapes, used, last, states = [], [], [], []
    y = x
    for number in range(n_layers):
        of_layer = []
        for direction in range(n_directions):
            place = number * n_directions + direction
            runs = []
            for variant in variants:
                with _naming(place, cell):
                    described = describe(
                        variant, y, layers[place], initial=_in_order(starts[place], cell, variant), lengths=lengths,
                        resets=resets_back if direction else resets, reverse=reverse or direction == 1, save=save,
                        recompute=recompute, x_is_given=number == 0,
                    )  # fmt: skip
                runs.append(functional.run_forward(*described, backend))
            last.append(runs[0].last)
            of_layer.append(runs)
            # What was checked once is not checked again.
            inputs = runs[0].tape.inputs
            lengths = inputs.lengths
            if resets is not None and not direction:
                resets = inputs.resets
                resets_back = from_behind(resets, lengths) if bidirectional else None
        tapes.append(tuple([tuple([run.tape for run in runs]) for runs in of_layer]))
        if all_states:
            states.append(tuple(_joined([run.y for run in both]) for both in zip(*of_layer, strict=True)))
            y = states[-1][0]
        else:
            y = _joined([runs[0].y for runs in of_layer])
        mask = None
        if number < n_layers - 1:
            if masks is not None:
                mask = masks[number]
            elif dropout > 0.0:
                mask = dropout_mask(y.shape, y.dtype, dropout, rng)
        y = y if mask is None else _times(y, mask)
        used.append(mask)
    return StackForward(y, tuple(last), StackTape(tuple(tapes), tuple(used)), tuple(states))


def backward(
    tape: StackTape,
    dy: Array | None = None,
    dlast: Sequence[Sequence[Array | None] | None] | None = None,
    dstates: Sequence[Sequence[Array | None] | None] | None = None,
) -> StackGradients:
    """Return the gradients of a scalar of which dy, dlast and dstates are the gradients.

    dy (T, B, D*H); dlast as `States`; dstates, where all states were asked for, as `StackForward.states`.
    None, for any of them, a layer or a state of it, stands for zeros.
    """
    n_directions = len(tape.tapes[0])
    dlasts = _for_each("dlast", dlast, [tapes for directions in tape.tapes for tapes in directions])
    of_states = _for_each("dstates", dstates, tape.tapes)
    gradients: list[Gradients] = []
    dx = dy
    for number in reversed(range(len(tape.tapes))):
        mask = tape.masks[number]
        dx = dx if mask is None or dx is None else _times(dx, mask)
        d_outputs = [dx, *[None] * (len(tape.tapes[number][0]) - 1)]
        for k, gradient in enumerate(of_states[number] or ()):
            if gradient is not None:
                d_outputs[k] = gradient if d_outputs[k] is None else _plus(d_outputs[k], gradient)
        of_layer = []
        for direction, tapes in enumerate(tape.tapes[number]):
            parts = d_outputs if n_directions == 1 else [_half(d, direction) for d in d_outputs]
            of_layer.append(_backward_of(tapes, parts, dlasts[number * n_directions + direction]))
        dx = of_layer[0].x if n_directions == 1 else _plus(of_layer[0].x, of_layer[1].x)
        gradients[:0] = of_layer
    return StackGradients(dx, tuple([g.weights for g in gradients]), tuple([g.initial for g in gradients]))


def step(
    cell: Cell, x: Array, layers: Sequence[Weights], states: States | None = None, *, resets: Array | None = None,
    backend: str | None = None,
) -> States:  # fmt: skip
    """Take one time step, in one direction: x (B, I) and the states, None for zeros, to the new states.

    The output is `result[-1][0]`. resets: (B,) bool, the rows whose states are zeroed before the step.
    """
    new = []
    step_of_layer: Any = functional.step
    for place, (weights, state) in enumerate(zip(layers, _for_each("states", states, layers), strict=True)):
        with _naming(place, cell):
            stepped = step_of_layer(cell, x, weights, state, resets=resets, backend=backend)
        step_of_layer = functional.step_above
        x = cast_like(stepped[0], x)  # the states of 16-bit layers have 32 bits
        new.append(tuple(stepped))
    return tuple(new)


def _backward_of(
    tapes: Sequence[functional.Tape], d_outputs: Sequence[Array | None], dlast: Sequence[Array | None] | None
) -> Gradients:
    """The gradients of one layer and direction: the sum over the runs that gave its states."""
    d_states = None if dlast is None else tuple(dlast)
    if len(tapes) == 1 and d_outputs[0] is not None:
        return functional.backward(tapes[0], d_outputs[0], d_states)
    problem = tapes[0].problem
    of_last = any(state is not None for state in d_states or ())
    if not of_last and all(d is None for d in d_outputs):
        zeros = problem.library.back(problem.library.zeros((problem.T, problem.B, problem.H), problem.dtype))
        d_outputs = [zeros, *d_outputs[1:]]
    found = [
        (tape.problem.cell, functional.backward(tape, d_output, None if number else d_states))
        for number, (tape, d_output) in enumerate(zip(tapes, d_outputs, strict=True))
        if d_output is not None or (of_last and number == 0)
    ]
    return reduce(lambda a, b: _sum(a, b, problem.cell), found)[1]


def _sum(a: tuple[Cell, Gradients], b: tuple[Cell, Gradients], cell: Cell) -> tuple[Cell, Gradients]:
    """The sum of the gradients of two variants of the cell, whose initial states lie in the order of each."""
    ours, theirs = (dict(g.weights.items()) for _, g in (a, b))
    states, others = (dict(zip(variant.states, g.initial, strict=True)) for variant, g in (a, b))
    weights = Weights.of({name: _plus(array, theirs[name]) for name, array in ours.items()}, cell.vectors)
    initial = tuple(_plus(states[name], others[name]) for name in cell.states)
    return cell, Gradients(_plus(a[1].x, b[1].x), weights, initial)


def _plus(a: Array, b: Array) -> Array:
    """Their sum, as IEEE says, without a word from NumPy."""
    with np.errstate(all="ignore"):
        return a + b


def _times(a: Array, b: Array) -> Array:
    """Their product, likewise."""
    with np.errstate(all="ignore"):
        return a * b


@contextmanager
def _naming(place: int, cell: Cell) -> Iterator[None]:
    """Errors of one layer's arguments name them as the stack's, of which `layers` and the states have one a place."""
    try:
        yield
    except (ArgumentError, ArgumentTypeError) as error:
        name, bracket, rest = error.argument.partition("[")
        layer = f"layers[{place}]"
        of_stack = {"weights": layer, "initial": f"initial[{place}]", "state": f"states[{place}]", "x_t": "x"}
        of_stack |= {field: f"{layer}.{field}" for field in (*FIELDS, *cell.vectors, "vectors")}
        raise type(error)(of_stack.get(name, name) + bracket + rest, error.expected, error.got) from error


def _in_order(states: Any, cell: Cell, variant: Cell) -> Any:
    """An array for each of the cell's states, in the variant's order of them; as they are where they are not that."""
    if variant is cell or not isinstance(states, tuple | list) or len(states) != len(cell.states):
        return states
    named = dict(zip(cell.states, states, strict=True))
    return tuple(named[state] for state in variant.states)


def _half(gradient: Array | None, direction: int) -> Array | None:
    """One direction's part of a (T, B, 2*H) gradient."""
    if gradient is None:
        return None
    hidden = gradient.shape[-1] // 2
    return gradient[..., direction * hidden : (direction + 1) * hidden]


def _joined(arrays: Sequence[Array]) -> Array:
    """Arrays of one library side by side along their last axis; a single one as it is."""
    if len(arrays) == 1:
        return arrays[0]
    module = sys.modules[type(arrays[0]).__module__.partition(".")[0]]
    return module.cat(arrays, -1) if hasattr(module, "cat") else module.concatenate(arrays, axis=-1)


def _for_each(argument: str, values: Iterable[Any] | None, layers: Sequence[Any]) -> list[Any]:
    """Return one value for each layer, None where there are none."""
    if not layers:
        raise ArgumentError("layers", "at least one layer", "none")
    if values is None:
        return [None] * len(layers)
    result = list(values)
    if len(result) != len(layers):
        raise ArgumentError(argument, f"a value for each of the {len(layers)} layers", str(len(result)))
    return result
