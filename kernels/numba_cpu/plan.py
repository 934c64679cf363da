"""What follows from a problem alone, found once: sizes, the compiled cell, the room that its arrays take."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from rnn_gpu.kernels.numba_cpu import backward_kernel, forward_kernel
from rnn_gpu.kernels.numba_cpu.cells import compiled
from rnn_gpu.kernels.numba_cpu.external import provide
from rnn_gpu.kernels.numba_cpu.host import ROWS_FOR_NOTHING, TRAITS
from rnn_gpu.kernels.numba_cpu.packing import Sizes, blocks_of, nothing
from rnn_gpu.problem import Problem

__all__ = ["Plan", "plan_of"]


class Plan:
    """A problem as the kernels see it.

    kernel: the compiled cell; sizes, blocks: see `packing.py`; room: elements of W, b_ih, U, bias and V, packed.
    n_gates, n_recurrent, n_stages, n_states, n_saved: what the cell has of each.
    shape_of_state: (B, H), as callers have it.
    work_of_a_row: about the floating-point operations of a row's step, forward; work_of_a_step: of
        all rows, few counted as ROWS_FOR_NOTHING.
    shares: what `shares.py` has found out for calls without lengths.
    frames: of `step.py`, for calls with weights that may change.
    """

    def __init__(self, problem: Problem) -> None:
        cell, itemsize = problem.cell, problem.real.itemsize
        provide(problem.real, backward=False)
        lanes = TRAITS.lanes(itemsize)
        self.problem = problem
        self.kernel, self.blocks = compiled(cell), blocks_of(cell)
        self.sizes = sizes = Sizes(lanes, -(-problem.H // lanes) * lanes, TRAITS.panel(itemsize))
        self.n_gates, self.n_recurrent = len(cell.input_gates), len(cell.recurrent_gates)
        self.n_stages, self.n_states, self.n_saved = len(cell.stages), len(cell.states), len(cell.saved)
        self.p_row = sizes.padded(self.n_gates * sizes.H_p)
        self.r_row = sum(sizes.padded(len(gates) * sizes.H_p) for gates in cell.stages)
        inputs = 0 if problem.projected else problem.I
        vectors = len(cell.vectors) * sizes.H_p
        self.room = (self.p_row * inputs, self.p_row, self.r_row * problem.H, self.r_row, vectors)
        multiplied = problem.I * self.n_gates + problem.H * self.n_recurrent
        self.work_of_a_row = 2.0 * problem.H * (multiplied + 50)  # 50: about what a cell's arithmetic costs a unit
        self.shape_of_state = (problem.B, problem.H)
        self.work_of_a_step = max(problem.B, ROWS_FOR_NOTHING) * self.work_of_a_row
        self._like = nothing(problem.real)
        self.shares: dict[Any, Any] = {}
        self.frames: dict[Any, Any] = {}

    @cached_property
    def forward_code(self) -> int:
        """The address of the cell's forward kernel."""
        return forward_kernel.address_of_forward(self.kernel, self._like)

    @cached_property
    def backward_code(self) -> int:
        """The address of the cell's backward kernel."""
        provide(self.problem.real, backward=True)
        return backward_kernel.address_of_backward(self.kernel, self._like)


def plan_of(problem: Problem) -> Plan:
    """The plan of a problem."""
    plan: Plan | None = problem.memo.get("numba_cpu")
    if plan is None:
        plan = problem.memo["numba_cpu"] = Plan(problem)
    return plan
