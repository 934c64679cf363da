"""Forward: lays out the batch, makes room, runs the compiled kernel on a team of threads."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.numba_cpu import crew, forward_kernel, memory
from rnn_gpu.kernels.numba_cpu.forward_kernel import PACK, PACKED
from rnn_gpu.kernels.numba_cpu.jit import BUILD, entry_of
from rnn_gpu.kernels.numba_cpu.layout import Layout, layout_of
from rnn_gpu.kernels.numba_cpu.packing import flat, kept_weights, raw_weights
from rnn_gpu.kernels.numba_cpu.plan import Plan, plan_of
from rnn_gpu.kernels.numba_cpu.shares import forward_shares, members_for
from rnn_gpu.kernels.numba_cpu.team import ALONE
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["Saved", "caller_states", "flat_resets", "our_states", "run"]


class Saved(NamedTuple):
    """What backward needs, in our layout: states before the first step and after each, and the cell's saved values.

    initial [n_states, B, H_p]; after [n_rows, n_states, H_p]; values [n_rows, n_saved, H_p], empty if recomputed.
    """

    layout: Layout
    initial: Array
    after: Array
    values: Array


def run(problem: Problem, inputs: Inputs) -> Result:
    """Run the sequence: y [T, B, H], last a [B, H] a state, and what backward needs."""
    plan, layout = plan_of(problem), layout_of(problem, inputs)
    real, H_p, blocks = problem.real, plan.sizes.H_p, plan.blocks
    kept = kept_weights(problem, inputs.weights, plan.room)
    raw = raw_weights(problem, inputs.weights) if kept is None else kept.raw
    keep_saved = problem.save and not problem.recompute
    initial = plan.no_states if inputs.initial is None else our_states(inputs.initial, plan, layout)
    last = initial.copy()
    n_after = layout.n_rows * plan.n_states * H_p if problem.save else 0
    after, values = memory.split((n_after, layout.n_rows * plan.n_saved * H_p if keep_saved else 0), real)
    y = (memory.empty if layout.full else memory.zeros)(problem.T * problem.B * problem.H, real)

    def prepare(members: int) -> crew.Task:
        share = forward_shares(plan, layout, members)
        work, *packed = memory.split((share.work, *(plan.room if kept is None else ())), real)
        if problem.projected and H_p > problem.H:  # the padding of P is read, and nothing is written there
            work[:] = 0
        arguments = (
            BUILD, plan.forward_code, raw, tuple(packed) if kept is None else kept.packed, blocks.gates, blocks.stages,
            PACK if kept is None or not kept.done else PACKED, flat(inputs.x, real), problem.projected,
            layout.in_order and not problem.reverse, layout.order, layout.active, layout.start, layout.begins,
            problem.reverse, flat_resets(inputs), initial, y, last, after, values, work, share.offsets, share.cuts,
            share.by_units, share.ahead, problem.save, keep_saved, plan.n_states, plan.n_saved, plan.n_gates,
            problem.I, problem.H, H_p, ALONE,
        )  # fmt: skip
        return entry_of(forward_kernel.forward, real, (*arguments, ALONE, ALONE)), arguments, len(share.offsets)

    if kept is None or kept.done:
        crew.run(members_for(plan, layout), prepare)
    else:
        with kept.lock:
            crew.run(members_for(plan, layout), prepare)
            kept.done = True
    y = y.reshape(problem.T, problem.B, problem.H).astype(problem.dtype, copy=False)
    saved = Saved(layout, initial, after, values) if problem.save else None
    return Result(y, caller_states(last, plan, layout), saved)


def flat_resets(inputs: Inputs) -> Array:
    """[T, B] bool, flat; empty without resets."""
    return _NO_RESETS if inputs.resets is None else inputs.resets.reshape(-1)


_NO_RESETS = np.zeros(0, np.bool_)


def our_states(states: tuple[Any, ...], plan: Plan, layout: Layout) -> Array:
    """The caller's (B, H) states as [n_states, B, H_p], in our order of rows, flat; zeros for None."""
    n_rows, H = plan.shape_of_state
    ours = np.zeros((plan.n_states, n_rows, plan.sizes.H_p), plan.problem.real)
    for k, state in enumerate(states):
        if state is not None:
            ours[k, :, :H] = state if layout.full else state[layout.order]
    return ours.reshape(-1)


def caller_states(ours: Array, plan: Plan, layout: Layout) -> tuple[Array, ...]:
    """The reverse of `our_states`."""
    n_rows, H = plan.shape_of_state
    shaped = ours.reshape(plan.n_states, n_rows, plan.sizes.H_p)
    if layout.full:
        return tuple(shaped if plan.sizes.H_p == H else shaped[:, :, :H].copy())
    theirs = np.empty((plan.n_states, n_rows, H), plan.problem.real)
    theirs[:, layout.order] = shaped[:, :, :H]
    return tuple(theirs)
