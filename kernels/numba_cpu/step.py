"""One step: `forward` for T = 1 without what a sequence needs. What a call can share with the next is made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.kernels.numba_cpu import crew, memory, step_kernel
from rnn_gpu.kernels.numba_cpu.constants import constant_arguments, layout_arguments
from rnn_gpu.kernels.numba_cpu.forward_kernel import ARGUMENTS, PACK, PACK_PANELS, PACKED
from rnn_gpu.kernels.numba_cpu.jit import BUILD, entry_of
from rnn_gpu.kernels.numba_cpu.layout import full_layout
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, places, written
from rnn_gpu.kernels.numba_cpu.packing import KeptWeights, kept_weights, plain, raw_weights
from rnn_gpu.kernels.numba_cpu.plan import Plan, plan_of
from rnn_gpu.kernels.numba_cpu.shares import forward_shares, members_for_step
from rnn_gpu.kernels.numba_cpu.team import ALONE
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["run"]

_PACK = places(ARGUMENTS)["pack"]


class _Frame(NamedTuple):
    """The memory of a call under way: the kernel's arguments, written down, and what they point to.

    initial, last [n_states, B, H_p], flat; zeros: a [B, H] for each state.
    entry: `step_kernel.step`, compiled for arrays such as these: it is not asked each time which it takes.
    """

    numbers: Array
    initial: Array
    last: Array
    zeros: tuple[Array, ...]
    members: int
    entry: Callable[..., None]
    held: tuple[Any, ...]


def run(problem: Problem, inputs: Inputs) -> tuple[Array, ...]:
    """Run one step: the new states, a [B, H] each."""
    plan, real, weights = plan_of(problem), problem.real, inputs.weights
    kept = kept_weights(problem, weights, plan.room)
    if kept is None:
        raw, frames = raw_weights(problem, weights), plan.frames
    else:
        raw, frames = kept.raw, kept.frames
    x = plain(inputs.x, real)
    states = tuple([plain(state, real) for state in inputs.initial]) if inputs.initial else None
    new = tuple([np.empty(plan.shape_of_state, real) for _ in range(plan.n_states)])
    free: list[_Frame] = []
    frame: _Frame | None = None

    def prepare(members: int) -> crew.Task:
        nonlocal free, frame
        free = frames.get((plan, members)) or frames.setdefault((plan, members), [])
        try:
            frame = free.pop()
        except IndexError:
            frame = _frame(plan, members, raw, kept)
        if kept is not None:
            frame.numbers[_PACK] = PACKED if kept.done else PACK
        given = frame.zeros if states is None else states
        arguments = (BUILD, plan.forward_code, frame.numbers, raw, x, given, new, frame.initial, frame.last)
        return frame.entry, arguments, frame.members

    if kept is None or kept.done:
        crew.run(members_for_step(plan), prepare, brief=True)
    else:
        with kept.lock:
            crew.run(members_for_step(plan), prepare, brief=True)
            kept.done = True
    if frame is not None:
        free.append(frame)
    return new


def _frame(plan: Plan, members: int, raw: tuple[Array, ...], kept: KeptWeights | None) -> _Frame:
    """A frame for at most so many members. Weights that may change are packed in it, panel by panel where they can."""
    problem, real, sizes = plan.problem, plan.problem.real, plan.sizes
    layout = full_layout(1, problem.B)
    share = forward_shares(plan, layout, members)
    owners = len(share.offsets)
    if kept is not None:
        packed, pack = kept.packed, PACK
    elif share.by_units or owners == 1:
        panel = sizes.panel * max(problem.H, 0 if problem.projected else problem.I)
        _, n_b_ih, _, n_bias, n_vectors = plan.room
        panels, b_ih, bias, vectors = memory.split((panel * owners, n_b_ih, n_bias, n_vectors), real)
        packed, pack = (panels, b_ih, panels, bias, vectors), PACK_PANELS
    else:
        packed, pack = tuple(memory.split(plan.room, real)), PACK
    n_inputs, n_states = problem.B * problem.I, plan.n_states * problem.B * sizes.H_p
    x, y, initial, last = memory.split((n_inputs, problem.B * problem.H, n_states, n_states), real)
    values = constant_arguments(plan, ARGUMENTS) | layout_arguments(plan, layout, share) | {
        "raw": raw, "packed": packed, "pack": pack, "x": x, "in_order": True, "initial": initial, "y": y,
        "last_states": last, "work": memory.zeros(share.work, real), "ahead": False, "keep_states": False,
        "keep_saved": False,
    }  # fmt: skip
    numbers = np.zeros(ROOM, np.int64)
    given = written(values[name] for name in ARGUMENTS)
    numbers[: len(given)] = given
    zeros = (np.zeros(plan.shape_of_state, real),) * plan.n_states
    x = x.reshape(1, problem.B, problem.I)
    arguments = (BUILD, plan.forward_code, numbers, raw, x, zeros, zeros, initial, last, ALONE, ALONE)
    entry = entry_of(step_kernel.step, (real, plan.n_states), arguments)
    return _Frame(numbers, initial, last, zeros, owners, entry, tuple(values.values()))
