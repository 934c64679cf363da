"""How a call's work is shared out over threads, and the memory that each needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from rnn_gpu.kernels.numba_cpu.buffers import BACKWARD, FORWARD, BackwardBuffers, ForwardBuffers, RoomBuffers
from rnn_gpu.kernels.numba_cpu.gradient_kernel import SLAB
from rnn_gpu.kernels.numba_cpu.host import AHEAD_BLOCKS, AHEAD_ROWS, BLOCK_ROWS, CACHE_LINE, DEPTH_OVER_ROWS, TILE_ROWS
from rnn_gpu.kernels.numba_cpu.layout import Layout
from rnn_gpu.kernels.numba_cpu.plan import Plan
from rnn_gpu.problem import Array
from rnn_gpu.threads import get_threads

__all__ = ["Share", "backward_shares", "forward_shares", "members_for", "members_for_step"]

WORTH_A_THREAD = 3.5e6
"""Floating-point operations that are done faster by several threads than by one."""

WORTH_A_THREAD_OF_A_STEP = 1e6
"""The same for a single step, which does not wait for a thread that sleeps."""

WORTH_A_TEAM, WORTH_FEWER_THREADS = 3 << 16, 1 << 19
"""Bytes of recurrent weights from which on reading some of them costs less, each step, than all, and a meeting; and
from which on so even if not all threads have some of them, who then have no part in other products either."""

IN_A_CACHE = 1 << 21
"""Bytes of recurrent weights up to which each thread of a team, of two or more, has its part in a cache of its own."""

FEW_ROWS, FEW_ROWS_IN_A_CACHE = 12.0, 2.5
"""Rows of a thread's own below which it is the weights' way to the processor that takes the time."""

WORTH_A_THREAD_AHEAD = 1e6
"""Floating-point operations of the input's product that are better done by a thread that would have nothing to do."""

ROWS_TO_SHARE = 8
"""Rows of a batch from which on all threads have about as many of them."""

PIECES, FEWEST_ROWS = 8, 48
"""Blocks that a smaller batch is cut into, and rows of each at least: about, as blocks are of whole steps."""


FORWARD_SHARED = (FORWARD.C, FORWARD.S, FORWARD.N)
"""Of forward's buffers those that members who share units read of one another. The others are each member's
own, whole, although it uses only its units' part: a processor also fetches the lines beside those it reads, and would
take them from whoever writes there."""

BACKWARD_SHARED = (BACKWARD.C_block, BACKWARD.S_block)
"""The same of backward's: of what is rebuilt."""


class Share(NamedTuple):
    """What each member of a team owns.

    ahead: of two members the first owns all, and the second makes W x + b for it.
    cuts [members + 1]: member m's rows are cuts[m]..cuts[m + 1]; or, if by_units, all rows, and some units of each.
    offsets [members, 2 * n_buffers]: where each of a member's buffers begins and ends, in `work` elements in all.
    Backward has besides:
    room_offsets, rooms: the same for the gradients' products.
    most: rows that are run back at a time, at most, or those of one step; ring: rows that this may be; rings: how many
    times as many are kept.
    """

    cuts: Array
    by_units: bool
    offsets: Array
    work: int
    room_offsets: Array = np.zeros((0, 0), np.int64)
    rooms: int = 0
    most: int = 0
    ring: int = 0
    rings: int = 0
    ahead: bool = False


def members_for(plan: Plan, layout: Layout, backward: bool = False) -> int:
    """Threads that the call is worth. Backward has twice as many products as forward."""
    return _threads_for(layout.n_rows * plan.work_of_a_row * (2 if backward else 1) / WORTH_A_THREAD)


def _most_rows(plan: Plan, layout: Layout) -> int:
    """Rows that are run back at a time at most, or those of a step; what they leave is multiplied meanwhile.

    Where a batch has few rows, and threads may own rows, not units, only some threads run back, and the blocks are such
    that the others soon have work. It never depends on the number of threads, as gradients are sums over blocks.
    """
    n_rows = layout.n_rows
    most = -(-n_rows // max(1, -(-n_rows // DEPTH_OVER_ROWS)))
    if layout.order.size >= ROWS_TO_SHARE or _recurrent_bytes(plan) >= WORTH_FEWER_THREADS:
        return most
    return min(most, -(-n_rows // max(1, min(PIECES, n_rows // FEWEST_ROWS))))


def members_for_step(plan: Plan) -> int:
    """Threads that a single step is worth."""
    return _threads_for(plan.work_of_a_step / WORTH_A_THREAD_OF_A_STEP)


def _threads_for(worth: float) -> int:
    """Threads for work that so many are worth."""
    return 1 if worth < 2 else min(get_threads(), int(worth))  # to ask how many there are takes a while


def forward_shares(plan: Plan, layout: Layout, members: int) -> Share:
    """Of the forward kernel: `ForwardBuffers`."""
    return _kept(plan, layout, members, _forward)


def backward_shares(plan: Plan, layout: Layout, members: int) -> Share:
    """Of the backward kernel: `BackwardBuffers`, those to recompute empty where nothing is, and `RoomBuffers`."""
    return _kept(plan, layout, members, _backward)


def _kept(plan: Plan, layout: Layout, members: int, make: Callable[[Plan, Layout, int], Share]) -> Share:
    if not layout.full:
        return make(plan, layout, members)
    share: Share | None = plan.shares.get((make, members))
    if share is None:
        share = plan.shares[make, members] = make(plan, layout, members)
    return share


def _forward(plan: Plan, layout: Layout, members: int) -> Share:
    cuts, by_units, units = _owners(plan, layout, members)
    if _is_worth_a_thread_ahead(plan, layout, members, cuts, by_units):
        both = _forward_counts(plan, 1, AHEAD_ROWS)
        owner, maker = both._replace(X=0, P=AHEAD_BLOCKS * both.P), ForwardBuffers(both.X, *[0] * (len(both) - 1))
        return Share(cuts, by_units, *_offsets([owner, maker], ()), ahead=True)
    counts = [
        _forward_counts(plan, rows, max(rows, min(BLOCK_ROWS, layout.n_rows))) for rows in _rows(cuts, by_units, units)
    ]
    return Share(cuts, by_units, *_offsets(counts, FORWARD_SHARED if by_units else ()))


def _is_worth_a_thread_ahead(plan: Plan, layout: Layout, members: int, cuts: Array, by_units: bool) -> bool:
    """Whether W x + b, of the one row that there is, is worth another thread, and has steps to be made ahead of."""
    problem = plan.problem
    if members == 1 or by_units or problem.projected or cuts[-1] != 1 or layout.n_rows <= AHEAD_ROWS:
        return False
    return 2.0 * layout.n_rows * problem.I * plan.n_gates * problem.H >= WORTH_A_THREAD_AHEAD


def _backward(plan: Plan, layout: Layout, members: int) -> Share:
    cuts, by_units, units = _owners(plan, layout, members)
    if by_units:
        members = units
    else:  # those without rows have a share in the products
        cuts = np.concatenate([cuts, np.full(members + 1 - cuts.size, cuts[-1])])
    counts = []
    for rows in _rows(cuts, by_units, members):
        states = plan.n_states * rows * plan.sizes.H_p
        transposed = plan.n_stages * rows * plan.sizes.padded(plan.sizes.H_p)
        block = max(BLOCK_ROWS, rows) if plan.problem.recompute else 0
        rebuilt = _forward_counts(plan, block, block)
        counts.append(
            BackwardBuffers(
                S=states, C=plan.kernel.scratch * rows * plan.sizes.H_p, T=transposed, D=states, E=states, Q=rebuilt.Q,
                X=rebuilt.X, P=rebuilt.P, R=rebuilt.R, C_block=rebuilt.C, S_block=rebuilt.S, N_block=rebuilt.N,
            )
        )  # fmt: skip
    rooms = [_product_counts(plan)] * members
    most = _most_rows(plan, layout)
    ring = min(layout.n_rows, max(most, int(layout.active.max(initial=0))))
    rings = 1 if layout.n_rows <= ring else 2
    shared = BACKWARD_SHARED if by_units else ()
    return Share(cuts, by_units, *_offsets(counts, shared), *_offsets(rooms, ()), most, ring, rings)


def _product_counts(plan: Plan) -> RoomBuffers:
    """Elements of each."""
    sizes = plan.sizes
    inputs = sizes.padded(0 if plan.problem.projected else plan.problem.I)
    columns = min(SLAB, max(plan.n_gates, plan.n_recurrent) * plan.problem.H) + TILE_ROWS
    return RoomBuffers(
        dx_block=BLOCK_ROWS * inputs,
        a_packed=columns * DEPTH_OVER_ROWS,
        b_packed=sizes.panel * DEPTH_OVER_ROWS,
        zeros=max(sizes.padded(sizes.H_p), inputs),
    )


def _forward_counts(plan: Plan, rows: int, limit: int) -> ForwardBuffers:
    """Elements of each for `rows` rows a step, `limit` of them projected at a time."""
    units = rows * plan.sizes.H_p
    return ForwardBuffers(
        X=0 if plan.problem.projected else plan.problem.I * limit,
        P=plan.p_row * limit,
        R=plan.r_row * rows,
        C=plan.kernel.scratch * units,
        Q=plan.n_saved * units,
        S=plan.n_states * units,
        N=plan.n_states * units,
    )


def _owners(plan: Plan, layout: Layout, members: int) -> tuple[Array, bool, int]:
    """cuts, by_units, and how many members there are."""
    units = _members_by_units(plan, members)
    if units > 1:
        return np.array([0, plan.problem.B], np.int64), True, units
    cuts = layout.cuts(min(members, max(plan.problem.B, 1)))
    return cuts, False, cuts.size - 1


def _members_by_units(plan: Plan, members: int) -> int:
    """Members that share the units of every row, each some whole panels of every gate; 1 if that does not pay."""
    rows, sizes, n_bytes = plan.problem.B, plan.sizes, _recurrent_bytes(plan)
    if rows == 0 or sizes.H_p % sizes.panel or n_bytes < WORTH_A_TEAM:
        return 1
    panels, few = sizes.H_p // sizes.panel, FEW_ROWS if n_bytes > IN_A_CACHE else FEW_ROWS_IN_A_CACHE
    most = -(-panels // min(members, panels))
    count = -(-panels // most)
    return 1 if few * panels <= rows * most or (count < members and n_bytes < WORTH_FEWER_THREADS) else count


def _recurrent_bytes(plan: Plan) -> int:
    """Of the recurrent weights."""
    return plan.n_recurrent * plan.problem.H**2 * plan.problem.real.itemsize


def _rows(cuts: Array, by_units: bool, members: int) -> list[int]:
    """Rows of each member."""
    return [int(cuts[-1])] * members if by_units else np.diff(cuts).tolist()


def _offsets(counts: Sequence[Sequence[int]], shared: Collection[int]) -> tuple[Array, int]:
    """Where buffers of so many elements begin and end, in lines of the cache; of `shared` there is one for all."""
    line, end = CACHE_LINE // 4, 0
    table: list[list[int]] = []
    for of_member in counts:
        places: list[int] = []
        for k, count in enumerate(of_member):
            if table and k in shared:
                places += table[0][2 * k : 2 * k + 2]
            else:
                begin, end = end, end - count // -line * line
                places += (begin, end)
        table.append(places)
    return np.array(table, np.int64), end
