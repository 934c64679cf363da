"""Forward: packs the weights, lays out the batch, runs the compiled driver a slice of the rows a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.numba_cpu import drivers
from rnn_gpu.kernels.numba_cpu.cells import compiled
from rnn_gpu.kernels.numba_cpu.layout import Layout, layout_of
from rnn_gpu.kernels.numba_cpu.packing import Sizes, flat, forward_weights, sizes_of
from rnn_gpu.kernels.numba_cpu.pool import run_all
from rnn_gpu.problem import Array, Inputs, Problem
from rnn_gpu.threads import get_threads

__all__ = ["Saved", "caller_states", "flat_resets", "our_states", "parts_of", "run"]

WORTH_A_THREAD = 4e6
"""Floating-point operations that are done faster by several threads than by one."""


@dataclass(frozen=True)
class Saved:
    """What backward needs, in our layout: states before the first step and after each, and the cell's saved values.

    initial [n_states, B, H_p]; after [n_rows, n_states, H_p]; values [n_rows, n_saved, H_p], empty if recomputed.
    """

    layout: Layout
    initial: Array
    after: Array
    values: Array


def run(problem: Problem, inputs: Inputs) -> Result:
    """Run the sequence: y [T, B, H], last a [B, H] a state, and what backward needs."""
    cell, real = problem.cell, problem.real
    sizes, layout, kernel = sizes_of(problem), layout_of(problem, inputs), compiled(cell)
    weights = forward_weights(problem, inputs.weights, sizes)
    n_states, n_saved = len(cell.states), len(cell.saved)
    keep_saved = problem.save and not problem.recompute
    initial = our_states(inputs.initial, problem, layout, sizes)
    last = initial.copy()
    after = np.empty(layout.n_rows * n_states * sizes.H_p if problem.save else 0, real)
    values = np.empty(layout.n_rows * n_saved * sizes.H_p if keep_saved else 0, real)
    y = (np.empty if inputs.lengths is None else np.zeros)(problem.T * problem.B * problem.H, real)
    x, resets = flat(inputs.x, real), flat_resets(inputs)
    parts = parts_of(problem, layout)
    run_all(
        [
            (
                drivers.forward_rows,
                (
                    kernel, x, problem.projected, layout.order, layout.active, layout.start, problem.reverse, resets,
                    weights.W, weights.b_ih, weights.U, weights.bias, weights.V, initial, y, last, after, values,
                    problem.save, keep_saved, a, b, n_states, n_saved, kernel.scratch,
                    len(cell.input_gates), problem.I, problem.H, sizes.H_p,
                ),
            )
            for a, b in layout.slices(parts)
        ],
        parts,
    )  # fmt: skip
    y = y.reshape(problem.T, problem.B, problem.H).astype(problem.dtype, copy=False)
    saved = Saved(layout, initial, after, values) if problem.save else None
    return Result(y, caller_states(last, problem, layout, sizes), saved)


def parts_of(problem: Problem, layout: Layout) -> int:
    """Into how many slices to cut the batch."""
    multiplied = problem.I * len(problem.cell.input_gates) + problem.H * len(problem.cell.recurrent_gates)
    work = 2.0 * layout.n_rows * problem.H * (multiplied + 50)  # 50: about what a cell's arithmetic costs a unit
    return max(1, min(get_threads(), problem.B, int(work / WORTH_A_THREAD)))


def flat_resets(inputs: Inputs) -> Array:
    """[T, B] bool, flat; empty without resets."""
    return np.zeros(0, np.bool_) if inputs.resets is None else inputs.resets.reshape(-1)


def our_states(states: tuple[Any, ...] | None, problem: Problem, layout: Layout, sizes: Sizes) -> Array:
    """The caller's (B, H) states as [n_states, B, H_p], in our order of rows, flat; zeros for None."""
    ours = np.zeros((len(problem.cell.states), problem.B, sizes.H_p), problem.real)
    for k, state in enumerate(states or ()):
        if state is not None:
            ours[k, :, : problem.H] = state[layout.order]
    return ours.reshape(-1)


def caller_states(ours: Array, problem: Problem, layout: Layout, sizes: Sizes) -> tuple[Array, ...]:
    """The reverse of `our_states`."""
    shaped = ours.reshape(len(problem.cell.states), problem.B, sizes.H_p)
    theirs = np.empty((len(problem.cell.states), problem.B, problem.H), problem.real)
    theirs[:, layout.order] = shaped[:, :, : problem.H]
    return tuple(theirs)
