"""Forward: packs the weights, lays out the batch, runs the compiled driver a slice of the rows a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.numba_cpu import drivers, memory
from rnn_gpu.kernels.numba_cpu.cells import compiled
from rnn_gpu.kernels.numba_cpu.host import BLOCK_ROWS
from rnn_gpu.kernels.numba_cpu.layout import Layout, layout_of
from rnn_gpu.kernels.numba_cpu.packing import Sizes, flat, forward_weights, sizes_of
from rnn_gpu.kernels.numba_cpu.pool import Task
from rnn_gpu.kernels.numba_cpu.shares import forward_work, run_shares
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["Saved", "caller_states", "flat_resets", "our_states", "run"]


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
    after = memory.empty(layout.n_rows * n_states * sizes.H_p if problem.save else 0, real)
    values = memory.empty(layout.n_rows * n_saved * sizes.H_p if keep_saved else 0, real)
    y = (memory.empty if inputs.lengths is None else memory.zeros)(problem.T * problem.B * problem.H, real)
    arguments = (
        kernel, flat(inputs.x, real), problem.projected, layout.order, layout.active, layout.start, problem.reverse,
        flat_resets(inputs), weights.W, weights.b_ih, weights.U, weights.bias, weights.V, initial, y, last, after,
    )  # fmt: skip
    counts = (
        problem.save, keep_saved, n_states, n_saved, len(cell.input_gates), problem.I, problem.H, sizes.H_p,
    )  # fmt: skip

    def task(rows: int) -> Task:
        limit = max(BLOCK_ROWS, rows)
        X, P, R, C, Q, S, N = forward_work(problem, sizes, kernel.scratch, rows, limit)
        work = (X, P, R, C, values if keep_saved else Q, S, N)
        return drivers.forward_rows, (*arguments, work, *counts, limit)

    run_shares(problem, layout, sizes, task)
    y = y.reshape(problem.T, problem.B, problem.H).astype(problem.dtype, copy=False)
    saved = Saved(layout, initial, after, values) if problem.save else None
    return Result(y, caller_states(last, problem, layout, sizes), saved)


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
