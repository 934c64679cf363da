"""How a call's work is shared out over threads: by rows of the batch, or, for very few rows, by hidden units."""

from __future__ import annotations

from collections.abc import Callable

from rnn_gpu.kernels.numba_cpu import memory
from rnn_gpu.kernels.numba_cpu.layout import Layout
from rnn_gpu.kernels.numba_cpu.packing import Sizes
from rnn_gpu.kernels.numba_cpu.pool import Task, run_all, run_together
from rnn_gpu.kernels.numba_cpu.team import abandon, new_team
from rnn_gpu.problem import Array, Problem
from rnn_gpu.threads import get_threads

__all__ = ["backward_work", "forward_work", "run_shares", "threads_for"]

WORTH_A_THREAD = 2e7
"""Floating-point operations that are done faster by several threads than by one."""

WORTH_A_TEAM = 1 << 19
"""Bytes of recurrent weights from which on reading half of them costs less, each step, than all, and a meeting."""


def threads_for(problem: Problem, layout: Layout) -> int:
    """Threads that the call is worth."""
    cell = problem.cell
    multiplied = problem.I * len(cell.input_gates) + problem.H * len(cell.recurrent_gates)
    work = 2.0 * layout.n_rows * problem.H * (multiplied + 50)  # 50: about what a cell's arithmetic costs a unit
    return max(1, min(get_threads(), int(work / WORTH_A_THREAD)))


def run_shares(problem: Problem, layout: Layout, sizes: Sizes, task: Callable[[int], Task]) -> None:
    """Run a driver over all rows and units.

    task: from the number of rows of a share to the driver and its arguments, less the last: team, member, rows, units.
    """
    threads = threads_for(problem, layout)
    members = _members(problem, sizes, threads)
    if members > 1:
        function, arguments = task(problem.B)
        team = new_team(members)
        units = sizes.H_p // members
        together = [(function, (*arguments, team, m, 0, problem.B, m * units, (m + 1) * units)) for m in range(members)]
        if run_together(together, lambda: abandon(team)):
            return
    alone = new_team(1)
    tasks = []
    for first, last in layout.slices(min(threads, max(problem.B, 1))):
        function, arguments = task(last - first)
        tasks.append((function, (*arguments, alone, 0, first, last, 0, sizes.H_p)))
    run_all(tasks, threads)


def forward_work(problem: Problem, sizes: Sizes, scratch: int, rows: int, limit: int) -> tuple[Array, ...]:
    """Buffers for `rows` rows a step, `limit` of them projected at a time: X, P, R, C, Q, S, N."""
    cell, H_p = problem.cell, sizes.H_p
    p_row = sizes.padded(len(cell.input_gates) * H_p)
    r_row = sum(sizes.padded(len(gates) * H_p) for gates in cell.stages)
    states = len(cell.states) * rows * H_p
    allocate = memory.zeros if problem.projected else memory.empty  # what is not written is read, as padding
    projected = allocate(p_row * limit, problem.real)
    counts = (r_row * rows, scratch * rows * H_p, len(cell.saved) * rows * H_p, states, states)
    rest = (memory.empty(count, problem.real) for count in counts)
    return memory.empty(problem.I * limit, problem.real), projected, *rest


def backward_work(
    problem: Problem, sizes: Sizes, scratch: int, rows: int, limit: int, values: Array
) -> tuple[Array, ...]:
    """Buffers for `rows` rows a step: S, C, T, D, E; Q; and what it takes to recompute Q, X, P, R, C, S, N.

    values: the saved Q, empty if it is to be recomputed.
    """
    states = len(problem.cell.states) * rows * sizes.H_p
    transposed = len(problem.cell.stages) * rows * sizes.padded(sizes.H_p)
    counts = (states, scratch * rows * sizes.H_p, transposed, states, states)
    S, C, T, D, E = (memory.empty(count, problem.real) for count in counts)
    rebuilt = limit if problem.recompute else 0
    X, P, R, C_block, Q, S_block, N_block = forward_work(problem, sizes, scratch, rebuilt, rebuilt)
    return S, C, T, D, E, Q if problem.recompute else values, X, P, R, C_block, S_block, N_block


def _members(problem: Problem, sizes: Sizes, threads: int) -> int:
    """Threads that share the units of every row, each some whole panels of every gate; 1 if that does not pay."""
    recurrent = len(problem.cell.recurrent_gates) * problem.H * problem.H * problem.real.itemsize
    if threads <= problem.B or problem.B == 0 or recurrent < WORTH_A_TEAM or sizes.H_p % sizes.panel:
        return 1
    panels = sizes.H_p // sizes.panel
    return max(members for members in range(1, min(threads, panels) + 1) if panels % members == 0)
