"""Recurrent layers as functions: forward, backward, one step, and which backend would run them.

Shapes are torch's: x (T, B, I), y (T, B, H), states (B, H); gate order as the cell declares it. Arrays may be NumPy's,
CuPy's or Numba's, or torch tensors on the CPU or a CUDA device; results are of the same library on the same device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from rnn_gpu import dispatch
from rnn_gpu.arrays import library_of, one_step
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.problem import (
    Array,
    Gradients,
    Inputs,
    Problem,
    describe,
    describe_gradients,
    reset,
    resets_of_step,
)
from rnn_gpu.weights.core import Weights

__all__ = ["Forward", "Tape", "backward", "explain", "forward", "run_backward", "run_forward", "step", "step_above"]


@dataclass(frozen=True)
class Tape:
    """What `backward` needs of one forward call. It can be used more than once.

    It holds the call's arrays, not copies: changing x, the weights or the initial states in place before `backward`
    changes the gradients.
    """

    problem: Problem
    inputs: Inputs
    saved: Any
    backend: dispatch.Backend

    def __repr__(self) -> str:
        return f"<Tape of {self.problem} on {self.backend.name}>"


class Forward(NamedTuple):
    """y (T, B, H); last, a (B, H) for each state; the tape for `backward`."""

    y: Array
    last: tuple[Array, ...]
    tape: Tape


def forward(
    cell: Cell,
    x: Array,
    weights: Weights,
    initial: tuple[Array | None, ...] | None = None,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    backend: str | None = None,
    *,
    save: bool = True,
    recompute: bool = False,
    tf32: bool = False,
) -> Forward:
    """Run a recurrent layer over a batch of sequences.

    x: (T, B, I), float64, float32, float16 or bfloat16; or W x_t itself, (T, B, G*H), where `weights.w_ih` is None.
    weights: `Weights` of x's dtype.
    initial: a (B, H) for each of the cell's states, of x's dtype or its working type; None for zeros.
    lengths: (B,) integers from 0 to T in any order. Where t >= lengths, y is exactly 0 and the states stay. They are
        wanted on the host: from a GPU they are copied, which waits for it.
    resets: (T, B) bool: the states are zeroed before step t of that row, and no gradient passes.
    reverse: run from the last step to the first; with lengths, each row from its own end.
    backend: name of the backend; else that of the environment variable RNN_GPU_BACKEND; else the first that can.
    save: False keeps nothing for `backward`.
    recompute: keep only the states; `backward` rebuilds the rest. Less memory, more time, the same gradients; those of
        16-bit arrays on a GPU up to rounding.
    tf32: float32 products, backward's too, may round their operands to TensorFloat-32 (10 bits of mantissa) where that
        is faster; else they are IEEE's. Without effect on other dtypes, and on the CPU.

    Returns (y, last, tape): y (T, B, H) of x's dtype, the first state at each step; `last` the states after the last
    step, a (B, H) each, float32 for 16-bit x (the state is not rounded between steps), else of x's dtype.

    Raises ArgumentTypeError or ArgumentError, naming the argument, and BackendError if no backend, or not the one that
    was named, can run the call.
    """
    problem, inputs = describe(
        cell,
        x,
        weights,
        initial=initial,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        save=save,
        recompute=recompute,
        tf32=tf32,
    )
    return run_forward(problem, inputs, backend)


def run_forward(problem: Problem, inputs: Inputs, backend: str | None) -> Forward:
    """`forward` for arguments that have been validated."""
    chosen = dispatch.select(problem, backend)
    y, last, saved = chosen.forward(problem, inputs)
    back = problem.library.back
    return Forward(back(y), tuple(map(back, last)), Tape(problem, inputs, saved, chosen))


def backward(tape: Tape, dy: Array | None = None, dlast: tuple[Array | None, ...] | None = None) -> Gradients:
    """Differentiate a loss back through the forward call that gave `tape`.

    dy: (T, B, H), the loss's gradient with respect to y; ignored where t >= lengths.
    dlast: a (B, H) or None for each state, its gradient with respect to `last`.

    Returns (x, weights, initial): gradients in the shapes of the arguments of `forward`.

    Raises ArgumentTypeError or ArgumentError for a wrong tape, dy or dlast, or where neither gradient is given.
    """
    if not isinstance(tape, Tape):
        raise ArgumentTypeError("tape", "the tape that forward returned", type(tape).__name__)
    return run_backward(tape, *describe_gradients(tape.problem, dy, dlast))


def run_backward(tape: Tape, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """`backward` for arguments that have been validated."""
    gradients = tape.backend.backward(tape.problem, tape.inputs, tape.saved, dy, dlast)
    back = tape.problem.library.back
    x = back(gradients.x)
    if x is gradients.x:  # so the others, which are of the same library, are the caller's, too
        return gradients
    return Gradients(x, gradients.weights.map(back), tuple(map(back, gradients.initial)))


def step(
    cell: Cell,
    x_t: Array,
    weights: Weights,
    state: tuple[Array | None, ...] | None = None,
    *,
    resets: Array | None = None,
    backend: str | None = None,
    tf32: bool = False,
) -> tuple[Array, ...]:
    """One fused step, for streaming: (B, I) and the states to the new states, of which the first is the output.

    The same as `forward` on one time step. state: a (B, H) for each state, None for zeros. resets: (B,) bool, the rows
    whose states are zeroed before the step.
    Raises as `forward` does.
    """
    if len(getattr(x_t, "shape", ())) != 2:
        library_of("x_t", x_t)
        raise ArgumentError("x_t", "a (B, I) array", f"shape {tuple(x_t.shape)}")
    return step_above(cell, x_t, weights, state, resets, backend=backend, tf32=tf32, x_is_given=True)


def step_above(
    cell: Cell,
    x_t: Array,
    weights: Weights,
    state: tuple[Array | None, ...] | None,
    resets: Array | None = None,
    *,
    backend: str | None,
    tf32: bool = False,
    x_is_given: bool = False,
) -> tuple[Array, ...]:
    """`step` of a layer whose x_t is the output of a layer below: weights that do not fit it are what is wrong."""
    described = partial(
        describe, cell, one_step(x_t), weights, initial=state, save=False, tf32=tf32, x_name="x_t",
        initial_name="state", x_is_given=x_is_given,
    )  # fmt: skip
    problem, inputs = described()
    chosen, library = dispatch.select(problem, backend), problem.library
    starts = None if resets is None else resets_of_step(problem, resets)
    if starts is None or library.kind == "cpu":
        new = chosen.step(problem, inputs if starts is None else reset(inputs, starts))
    else:
        new = chosen.forward(*described(resets=one_step(starts))).last
    return new if library.name == "numpy" else tuple(map(library.back, new))


def explain(
    cell: Cell,
    x: Array,
    weights: Weights,
    initial: tuple[Array | None, ...] | None = None,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    backend: str | None = None,
    *,
    save: bool = True,
    recompute: bool = False,
    tf32: bool = False,
) -> dispatch.Explanation:
    """Say which backend `forward` would run this call on, and why not the others. Nothing is run.

    print() it for the whole story. Raises as `forward` does for bad arguments.
    """
    problem, _ = describe(
        cell,
        x,
        weights,
        initial=initial,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        save=save,
        recompute=recompute,
        tf32=tf32,
    )
    return dispatch.explain(problem, backend)
