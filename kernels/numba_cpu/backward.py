"""Backward: makes room, runs the compiled kernel on a team of threads, hands out the gradients."""

from __future__ import annotations

import numpy as np

from rnn_gpu.kernels.numba_cpu import backward_kernel, crew, memory
from rnn_gpu.kernels.numba_cpu.forward import Saved, caller_states, flat_resets, our_states
from rnn_gpu.kernels.numba_cpu.jit import BUILD, entry_of
from rnn_gpu.kernels.numba_cpu.packing import flat, kept_weights, nothing, raw_weights
from rnn_gpu.kernels.numba_cpu.plan import plan_of
from rnn_gpu.kernels.numba_cpu.shares import backward_shares, members_for
from rnn_gpu.kernels.numba_cpu.team import ALONE
from rnn_gpu.problem import Array, Gradients, Inputs, Problem
from rnn_gpu.weights.core import Weights

__all__ = ["run"]


def run(problem: Problem, inputs: Inputs, saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    cell, real, layout, plan, given = problem.cell, problem.real, saved.layout, plan_of(problem), inputs.weights
    blocks, rooms, H, H_p = plan.blocks, plan.gradients, problem.H, plan.sizes.H_p
    kept = kept_weights(problem, given, plan.room)
    raw = raw_weights(problem, given) if kept is None else kept.raw
    none, x = nothing(real), flat(inputs.x, real)
    d_states = our_states(dlast, plan, layout)
    d_vectors = np.zeros((len(cell.vectors), problem.B, H_p))
    sums_w = np.zeros(plan.n_gates * H)
    sums_u = sums_w if rooms.merged else np.zeros(plan.n_recurrent * H)
    dx = (memory.empty if layout.full else memory.zeros)(x.size, real)
    n_w_ih, n_w_hh, *n_biases = rooms.wanted
    d_w_ih, d_w_hh = memory.empty(n_w_ih, real), memory.empty(n_w_hh, real)
    d_b_ih, d_b_hh = memory.split(n_biases, real)

    as_wanted_w, as_wanted_u = rooms.as_wanted

    def prepare(members: int) -> crew.Task:
        share = backward_shares(plan, layout, members)
        rows = share.ring * share.rings
        of_rows = (rows * rooms.dr_row, 0 if plan.kernel.shared else rows * rooms.dp_row, rows * plan.n_stages * H_p)
        counts = (*rooms.transposed, *of_rows, *rooms.padded, share.work, share.rooms)
        U_t, W_t, DR, DP, O, dw, du, work, room, *packed = memory.split(
            counts if kept is not None else (*counts, *rooms.packed), real
        )
        DP = DR if plan.kernel.shared else DP
        if problem.projected and problem.recompute and H_p > H:  # the padding of P is read
            work[:] = 0
        gradients = (
            dx, d_w_ih if as_wanted_w else dw, d_w_hh if as_wanted_u else du, none if as_wanted_w else d_w_ih,
            none if as_wanted_u else d_w_hh,
        )  # fmt: skip
        arguments = (
            BUILD, plan.backward_code, raw, tuple(packed) if kept is None else kept.packed,
            kept is None or not kept.done, blocks.gates, blocks.stages, (U_t, W_t, DR, DP, O), blocks.back_gates,
            blocks.back_stages, x, problem.projected, layout.order, layout.active, layout.start, layout.begins,
            layout.flat_rows, problem.reverse, flat_resets(inputs), saved.initial, saved.after, saved.values,
            problem.recompute, none if dy is None else flat(dy, real), d_states, d_vectors.reshape(-1), gradients,
            d_b_ih, d_b_hh, sums_w, sums_u, rooms.dr_row, rooms.dp_row, rooms.dw_row, rooms.du_row, share.ring,
            share.most, rooms.merged, work, share.offsets, room, share.room_offsets, share.cuts, share.by_units,
            plan.n_states, plan.n_saved, plan.n_gates, plan.n_stages, problem.I, H, H_p, ALONE,
        )  # fmt: skip
        return entry_of(backward_kernel.backward, real, (*arguments, ALONE, ALONE)), arguments, len(share.offsets)

    crew.run(members_for(plan, layout, backward=True), prepare)

    if problem.dtype is not real:
        dx, d_w_ih, d_w_hh, d_b_ih, d_b_hh = [d.astype(problem.dtype) for d in (dx, d_w_ih, d_w_hh, d_b_ih, d_b_hh)]
    d_weights = Weights(
        None if given.w_ih is None else d_w_ih.reshape(given.w_ih.shape),
        None if given.w_hh is None else d_w_hh.reshape(given.w_hh.shape),
        None if given.b_ih is None else d_b_ih,
        None if given.b_hh is None else d_b_hh,
        {name: d_vectors[k, :, :H].sum(axis=0).astype(problem.dtype) for k, name in enumerate(cell.vectors)},
    )
    return Gradients(dx.reshape(inputs.x.shape), d_weights, caller_states(d_states, plan, layout))
