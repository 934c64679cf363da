"""What follows from a problem alone, found once: sizes, the compiled cell, the room that its arrays take."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from rnn_gpu.kernels.numba_cpu import kernel
from rnn_gpu.kernels.numba_cpu.backward_kernel import backward_share
from rnn_gpu.kernels.numba_cpu.cells import compiled
from rnn_gpu.kernels.numba_cpu.external import provide
from rnn_gpu.kernels.numba_cpu.few_inputs import inputs_are_few
from rnn_gpu.kernels.numba_cpu.forward_kernel import forward_share
from rnn_gpu.kernels.numba_cpu.host import ROWS_FOR_NOTHING, TRAITS
from rnn_gpu.kernels.numba_cpu.packing import Sizes, blocks_of, no_states
from rnn_gpu.problem import Array, Problem

__all__ = ["Plan", "plan_of"]


class GradientRooms(NamedTuple):
    """The room that gradients take.

    dr_row, dp_row: columns of the gradients of the gates' products, [rows, columns]; merged: the two are one array, and
    of one stage. transposed: elements of U and W, transposed and packed.
    wanted: elements of the gradients of w_ih, w_hh, b_ih and b_hh, as the caller has them.
    dw_row, du_row: columns of the sums that become those of w_ih and w_hh, [G*H, dw_row], or [I, dw_row] if the inputs
    are few, and [S*H, du_row]; padded: their elements, 0 where they are as_wanted: without padding, in the order of the
    caller's.
    packed: elements of W, b_ih, U, bias and V, packed, as far as backward reads them.
    """

    dr_row: int
    dp_row: int
    merged: bool
    transposed: tuple[int, int]
    wanted: tuple[int, int, int, int]
    dw_row: int
    du_row: int
    padded: tuple[int, int]
    as_wanted: tuple[bool, bool]
    packed: tuple[int, int, int, int, int]


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
        self.shares: dict[Any, Any] = {}
        self.frames: dict[Any, Any] = {}

    @property
    def no_states(self) -> Array:
        """States before the first step where the caller gives none, [n_states, B, H_p], flat; nobody writes to them."""
        return no_states(self.n_states * self.problem.B * self.sizes.H_p, self.problem.real)

    @cached_property
    def gradients(self) -> GradientRooms:
        """The room that backward needs, without what depends on the layout and the threads."""
        problem, sizes, shared = self.problem, self.sizes, self.kernel.shared
        H, columns = problem.H, 0 if problem.projected else problem.I
        dr_row = self._gate_row(self.n_recurrent)
        few = inputs_are_few(problem.I, problem.projected)
        dw_row, du_row = self.n_gates * H if few else sizes.padded(columns), sizes.padded(H)
        as_wanted = (dw_row == columns and not few, du_row == H and self.blocks.in_order)
        n_w, n_u = (columns if few else self.n_gates * H) * dw_row, self.n_recurrent * H * du_row
        return GradientRooms(
            dr_row=dr_row,
            dp_row=dr_row if shared else self._gate_row(self.n_gates),
            merged=shared and self.n_stages == 1,
            transposed=(n_u, n_w),
            wanted=(
                self.n_gates * H * columns,
                self.n_recurrent * H * H,
                self.n_gates * H if problem.has_b_ih else 0,
                self.n_recurrent * H if problem.has_b_hh else 0,
            ),
            dw_row=dw_row,
            du_row=du_row,
            padded=(0 if as_wanted[0] else n_w, 0 if as_wanted[1] else n_u),
            as_wanted=as_wanted,
            packed=self.room if problem.recompute else (0, 0, 0, 0, self.room[-1]),
        )

    def _gate_row(self, n_gates: int) -> int:
        """The stride of rows of so many gates: one of whole memory pages would put all rows into few cache lines."""
        lanes = self.sizes.lanes
        columns = -(-n_gates * self.problem.H // lanes) * lanes
        return columns + (lanes if columns * self.problem.real.itemsize % 1024 == 0 else 0)

    @cached_property
    def forward_code(self) -> int:
        """The address of the cell's forward kernel."""
        return kernel.address_of(forward_share, self.kernel, self.problem.real)

    @cached_property
    def backward_code(self) -> int:
        """The address of the cell's backward kernel."""
        provide(self.problem.real, backward=True)
        return kernel.address_of(backward_share, self.kernel, self.problem.real)


def plan_of(problem: Problem) -> Plan:
    """The plan of a problem."""
    plan: Plan | None = problem.memo.get("numba_cpu")
    if plan is None:
        plan = problem.memo["numba_cpu"] = Plan(problem)
    return plan
