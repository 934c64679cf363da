"""Backward: makes room, runs the compiled kernel on a team of threads, hands out the gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_gpu.kernels.numba_cpu import backward_kernel, crew, memory
from rnn_gpu.kernels.numba_cpu.forward import Saved, caller_states, flat_resets, our_states
from rnn_gpu.kernels.numba_cpu.jit import BUILD, entry_of
from rnn_gpu.kernels.numba_cpu.packing import Blocks, Sizes, flat, nothing, prepared_weights
from rnn_gpu.kernels.numba_cpu.plan import plan_of
from rnn_gpu.kernels.numba_cpu.shares import backward_shares, members_for
from rnn_gpu.kernels.numba_cpu.team import ALONE
from rnn_gpu.problem import Array, Gradients, Inputs, Problem
from rnn_gpu.weights.core import Weights

__all__ = ["run"]


def run(problem: Problem, inputs: Inputs, saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    cell, real, layout, plan = problem.cell, problem.real, saved.layout, plan_of(problem)
    sizes, blocks, H_p = plan.sizes, plan.blocks, plan.sizes.H_p
    weights = prepared_weights(problem, inputs.weights, plan.room)
    none, x = nothing(real), flat(inputs.x, real)
    d_states = our_states(dlast, problem, layout, H_p)
    d_vectors = np.zeros((len(cell.vectors), problem.B, H_p))
    dr_row = _gate_row(plan.n_recurrent, sizes, real)
    dp_row = dr_row if plan.kernel.shared else _gate_row(plan.n_gates, sizes, real)
    transposed = (
        plan.n_recurrent * H_p * sizes.padded(problem.H),
        0 if problem.projected else plan.n_gates * H_p * sizes.padded(problem.I),
    )
    d_w = _WeightGradient(plan.n_gates, 0 if problem.projected else problem.I, problem, sizes, in_order=True)
    d_u = _WeightGradient(plan.n_recurrent, problem.H, problem, sizes, blocks.in_order)
    merged = plan.kernel.shared and plan.n_stages == 1
    sums_w = np.zeros(plan.n_gates * H_p)
    sums_u = sums_w if merged else np.zeros(plan.n_recurrent * H_p)
    dx = (memory.empty if layout.full else memory.zeros)(x.size, real)

    def prepare(members: int) -> crew.Task:
        share = backward_shares(plan, layout, members)
        rows = share.ring * share.rings
        of_rows = (rows * dr_row, 0 if plan.kernel.shared else rows * dp_row, rows * plan.n_stages * H_p)
        U_t, W_t, DR, DP, O, work, rooms = memory.split((*transposed, *of_rows, share.work, share.rooms), real)
        DP = DR if plan.kernel.shared else DP
        if problem.projected and problem.recompute and H_p > problem.H:  # the padding of P is read
            work[:] = 0
        arguments = (
            BUILD, plan.backward_code, weights.raw, weights.packed, not weights.done, blocks.gates, blocks.stages,
            (U_t, W_t, DR, DP, O), blocks.back_gates, blocks.back_stages, x, problem.projected, layout.order,
            layout.active, layout.start, layout.flat_rows, problem.reverse, flat_resets(inputs), saved.initial,
            saved.after, saved.values, problem.recompute, none if dy is None else flat(dy, real), d_states,
            d_vectors.reshape(-1), (dx, d_w.padded, d_u.padded, d_w.copied, d_u.copied), sums_w, sums_u, dr_row,
            dp_row, d_w.stride, d_u.stride, share.ring, share.most, merged, work, share.offsets, rooms,
            share.room_offsets, share.cuts, share.by_units, plan.n_states, plan.n_saved, plan.n_gates,
            plan.n_stages, problem.I, problem.H, H_p, ALONE,
        )  # fmt: skip
        return entry_of(backward_kernel.backward, real, (*arguments, ALONE, ALONE)), arguments, len(share.offsets)

    crew.run(members_for(plan, layout, backward=True), prepare)

    def like(array: Array | None, gradient: Array) -> Array | None:
        return None if array is None else gradient.astype(problem.dtype, copy=False)

    given, H = inputs.weights, problem.H
    d_weights = Weights(
        like(given.w_ih, d_w.matrix),
        like(given.w_hh, d_u.matrix),
        like(given.b_ih, sums_w.reshape(plan.n_gates, H_p)[:, :H].reshape(-1)),
        like(given.b_hh, _declared(sums_u.reshape(plan.n_recurrent, H_p)[:, :H], blocks, copied=merged).reshape(-1)),
        {name: d_vectors[k, :, :H].sum(axis=0).astype(problem.dtype) for k, name in enumerate(cell.vectors)},
    )
    d_initial = caller_states(d_states, problem, layout, H_p)
    return Gradients(dx.reshape(inputs.x.shape).astype(problem.dtype, copy=False), d_weights, d_initial)


def _gate_row(n_gates: int, sizes: Sizes, real: np.dtype[Any]) -> int:
    """Columns of the gradients of the gates' products, [rows, columns], of which n_gates * H_p are used.

    A stride of whole memory pages would put all rows into the same few cache lines.
    """
    columns = n_gates * sizes.H_p
    return columns + (sizes.lanes if columns * real.itemsize % 1024 == 0 else 0)


class _WeightGradient:
    """Room for a gradient [n_gates * H, columns].

    padded: [n_gates * H_p, stride], which the kernel sums into; copied: what it copies that to, without the padding
    and in the order in which gates are declared; empty if `padded` is so already.
    """

    def __init__(self, n_gates: int, columns: int, problem: Problem, sizes: Sizes, in_order: bool) -> None:
        H, real = problem.H, problem.real
        self.stride = sizes.padded(columns)
        self.padded = memory.empty(n_gates * sizes.H_p * self.stride, real)
        as_wanted = in_order and sizes.H_p == H and self.stride == columns
        self.copied = nothing(real) if as_wanted else memory.empty(n_gates * H * columns, real)
        self.matrix = (self.padded if as_wanted else self.copied).reshape(n_gates * H, columns)


def _declared(sums: Array, blocks: Blocks, copied: bool) -> Array:
    """Rows in the order of the stages, put into that in which their gates are declared. copied: as a new array."""
    if blocks.in_order:
        return sums.copy() if copied else sums
    declared = np.empty_like(sums)
    declared[blocks.gates[: len(sums)]] = sums
    return declared
