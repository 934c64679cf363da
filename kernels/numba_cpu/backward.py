"""Backward: the compiled driver a slice of the rows a thread, then the weights' gradients a slice of them a thread."""

from __future__ import annotations

import numpy as np

from rnn_gpu.kernels.numba_cpu import drivers, memory
from rnn_gpu.kernels.numba_cpu.cells import compiled
from rnn_gpu.kernels.numba_cpu.forward import Saved, caller_states, flat_resets, our_states
from rnn_gpu.kernels.numba_cpu.gradients import GateRows, InputGradient, Source, WeightGradient, weight_tasks
from rnn_gpu.kernels.numba_cpu.host import BLOCK_ROWS
from rnn_gpu.kernels.numba_cpu.packing import (
    ForwardWeights,
    flat,
    forward_weights,
    padded_vectors,
    recurrent_weights_back,
    sizes_of,
)
from rnn_gpu.kernels.numba_cpu.pool import Task, run_all
from rnn_gpu.kernels.numba_cpu.shares import backward_work, run_shares, threads_for
from rnn_gpu.problem import Array, Gradients, Inputs, Problem
from rnn_gpu.weights.core import Weights

__all__ = ["run"]


def run(problem: Problem, inputs: Inputs, saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    cell, real = problem.cell, problem.real
    sizes, layout, kernel = sizes_of(problem), saved.layout, compiled(cell)
    n_gates, n_recurrent, n_stages = len(cell.input_gates), len(cell.recurrent_gates), len(cell.stages)
    nothing = np.empty(0, real)
    weights = (
        forward_weights(problem, inputs.weights, sizes)
        if problem.recompute
        else ForwardWeights(nothing, nothing, nothing, nothing, padded_vectors(problem, inputs.weights, sizes))
    )
    d_states = our_states(dlast, problem, layout, sizes)
    d_vectors = np.zeros((len(cell.vectors), problem.B, sizes.H_p))
    d_recurrent = GateRows(layout.n_rows, n_recurrent, sizes, real)
    d_input = d_recurrent if kernel.shared else GateRows(layout.n_rows, n_gates, sizes, real)
    operands = memory.empty(layout.n_rows * n_stages * sizes.H_p, real)
    x = flat(inputs.x, real)
    arguments = (
        kernel, x, problem.projected, layout.order, layout.active, layout.start, problem.reverse, flat_resets(inputs),
        weights.W, weights.b_ih, weights.U, weights.bias, weights.V, saved.initial, saved.after,
    )  # fmt: skip
    gradients = (
        problem.recompute, recurrent_weights_back(problem, inputs.weights, sizes),
        nothing if dy is None else flat(dy, real), d_states, d_vectors.reshape(-1),
        d_recurrent.array, d_recurrent.stride, d_input.array, d_input.stride, operands,
    )  # fmt: skip
    counts = (len(cell.states), len(cell.saved), n_gates, n_stages, problem.I, problem.H, sizes.H_p)

    def task(rows: int) -> Task:
        limit = max(BLOCK_ROWS, rows)
        work = backward_work(problem, sizes, kernel.scratch, rows, limit, saved.values)
        return drivers.backward_rows, (*arguments, work, *gradients, *counts, limit)

    run_shares(problem, layout, sizes, task)
    parts = threads_for(problem, layout)

    dx = InputGradient(problem, inputs, layout, sizes, d_input)
    d_w = WeightGradient(n_gates, 0 if problem.projected else problem.I, sizes, real)
    d_u = WeightGradient(n_recurrent, problem.H, sizes, real)
    by_input = Source(d_w, x, layout.flat_rows * problem.I)
    by_stage = [Source(d_u, operands, (np.arange(layout.n_rows) * n_stages + k) * sizes.H_p) for k in range(n_stages)]
    tasks = dx.tasks(parts)
    if kernel.shared and n_stages == 1:  # one pass over dR, which is dP, serves both products
        d_u.sums = d_w.sums
        tasks += weight_tasks(d_input, 0, d_input.columns, d_w.sums, [by_input, *by_stage], sizes, parts)
    else:
        tasks += weight_tasks(d_input, 0, d_input.columns, d_w.sums, [by_input], sizes, parts)
        begin = 0
        for gates, source in zip(cell.stages, by_stage, strict=True):
            end = begin + len(gates) * sizes.H_p
            tasks += weight_tasks(d_recurrent, begin, end, d_u.sums, [source], sizes, parts)
            begin = end
    run_all(tasks, parts)

    in_stages = [gate for gates in cell.stages for gate in gates]
    declared = [in_stages.index(gate) for gate in cell.recurrent_gates]
    given = inputs.weights

    def like(array: Array | None, gradient: Array) -> Array | None:
        return None if array is None else gradient.astype(problem.dtype, copy=False)

    d_weights = Weights(
        like(given.w_ih, d_w.matrix(problem.H, range(n_gates))),
        like(given.w_hh, d_u.matrix(problem.H, declared)),
        like(given.b_ih, d_w.bias(problem.H, range(n_gates))),
        like(given.b_hh, d_u.bias(problem.H, declared)),
        {name: d_vectors[k, :, : problem.H].sum(axis=0).astype(problem.dtype) for k, name in enumerate(cell.vectors)},
    )
    d_initial = caller_states(d_states, problem, layout, sizes)
    return Gradients(dx.matrix().astype(problem.dtype, copy=False), d_weights, d_initial)
