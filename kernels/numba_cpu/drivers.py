"""The loops over time, compiled: forward and backward over a slice of the batch, and the products after the loop.

What one thread owns: a slice of the rows, from the first step to the last, with its states and scratch in cache, and no
barrier between threads; or, where there are fewer rows than threads, a slice of the hidden units, whose recurrent
weights stay in its cache, with a meeting of the team before each product. Weight gradients come after, cut by rows.
All arrays are flat; `layout.py` tells where the values of row b at step t lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_gpu.kernels.numba_cpu.cells import backward_step, forward_step
from rnn_gpu.kernels.numba_cpu.host import BLOCK_ROWS, DEPTH_OVER_ROWS, TILE_ROWS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.product import (
    clear,
    column_sums,
    copy,
    integer,
    pack_operand,
    padded,
    panel_of,
    product,
    product_of_units,
    product_over_rows,
)
from rnn_gpu.kernels.numba_cpu.team import meet, team_size

__all__ = ["backward_rows", "forward_rows", "input_gradients", "weight_gradients"]


@jit
def _running(active: Any, t: int, first: int, last: int) -> int:
    """How many of the rows first..last run at step t; 0 outside the sequence."""
    return max(0, min(last, active[t]) - first) if 0 <= t < active.size else 0


@jit
def _project(
    P: Any, p0: int, p_row: int, X: Any, x: Any, t: int, order: Any, b_ih: Any, projected: bool,
    rows: int, first: int, n_gates: int, I: int, H: int, H_p: int,
) -> None:  # fmt: skip
    """Gather the rows of step t: into X [row, I], or, if x is W x already, into P at p0 with the bias added."""
    n_batch = order.size
    for row in range(rows):
        source = (t * n_batch + order[first + row]) * I
        if projected:
            for g in range(n_gates):
                for j in range(H):
                    P[p0 + row * p_row + g * H_p + j] = x[source + g * H + j] + b_ih[g * H_p + j]
        else:
            copy(X, (p0 // p_row + row) * I, x, source, I)


@jit
def _block_end(active: Any, s0: int, reverse: bool, first: int, last: int, limit: int) -> int:
    """The end of a run of steps, from the s0-th on, that hold at most `limit` rows, or one step."""
    n_steps = active.size
    total, s = 0, s0
    while s < n_steps:
        total += _running(active, n_steps - 1 - s if reverse else s, first, last)
        if total > limit and s > s0:
            break
        s += 1
    return s


@cached_jit
def forward_rows(
    cell: Any, x: Any, projected: bool, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    W: Any, b_ih: Any, U: Any, bias: Any, V: Any, initial: Any, y: Any, last_states: Any, after: Any, work: Any,
    keep_states: bool, keep_saved: bool, n_states: int, n_saved: int, n_gates: int, I: int, H: int, H_p: int,
    limit: int, team: Any, member: int, first: int, last: int, u0: int, u1: int,
) -> None:  # fmt: skip
    """Run the rows first..last of the batch through all steps, for the units u0..u1; the other units are its team's.

    x [T, B, I]; order, active, start: the layout; resets [T, B] or empty; W, U packed, b_ih, bias padded; V as the
    step's; initial, last_states [n_states, B, H_p] in our order; y [T, B, H] in the caller's order.
    after [n_rows, n_states, H_p] if keep_states. work: X [limit, I], P [limit, p_row], R, C, Q, S, N as `forward_step`
    has them, the same for the whole team; Q is [n_rows, n_saved, H_p] if keep_saved.
    """
    X, P, R, C, Q, S, N = work
    n_steps, n_batch, rows = active.size, order.size, last - first
    s_slot, q_row, a_row, r_row = rows * H_p, n_saved * H_p, n_states * H_p, bias.size
    p_row = padded(n_gates * H_p, panel_of(V))
    units, own_y = u1 - u0, min(H, u1) - u0
    for k in range(n_states):
        for row in range(rows):
            source = (k * n_batch + first + row) * H_p + u0
            copy(S, k * s_slot + row * H_p + u0, initial, source, units)
            copy(N, k * s_slot + row * H_p + u0, initial, source, units)
    s0, zero = integer(0), integer(0)
    while s0 < n_steps:
        s1 = _block_end(active, s0, reverse, first, last, limit)
        meet(team)
        block = integer(0)
        for s in range(s0, s1):
            t = n_steps - 1 - s if reverse else s
            n = _running(active, t, first, last)
            if s % team_size(team) == member:
                _project(P, block * p_row, p_row, X, x, t, order, b_ih, projected, n, first, n_gates, I, H, H_p)
            block += n
        meet(team)
        if not projected:
            product_of_units(
                P, zero, p_row, X, zero, I, W, zero, b_ih, zero, block, n_gates, H_p, u0, u1, I
            )  # fmt: skip
        p0 = 0
        for s in range(s0, s1):
            t = n_steps - 1 - s if reverse else s
            n = _running(active, t, first, last)
            if n == 0:
                continue
            if resets.size > 0:
                for row in range(n):
                    if resets[t * n_batch + order[first + row]]:
                        for k in range(n_states):
                            clear(S, k * s_slot + row * H_p + u0, units)
            q0 = (start[t] + first) * q_row if keep_saved else 0
            forward_step(
                cell, P, p0, p_row, R, r_row, S, N, s_slot, Q, q0, q_row, C, V, U, bias, n, H, H_p, team, u0, u1
            )
            p0 += n * p_row
            for row in range(n):
                if keep_states:
                    for k in range(n_states):
                        to, source = (start[t] + first + row) * a_row + k * H_p, k * s_slot + row * H_p
                        copy(after, to + u0, N, source + u0, units)
                copy(y, (t * n_batch + order[first + row]) * H + u0, N, row * H_p + u0, own_y)
            S, N = N, S
            following = _running(active, t - 1 if reverse else t + 1, first, last)
            for k in range(n_states):
                for row in range(following, n):
                    to, source = (k * n_batch + first + row) * H_p, k * s_slot + row * H_p
                    copy(last_states, to + u0, S, source + u0, units)
        s0 = s1


@jit
def _states_before(
    S: Any, s_slot: int, row0: int, t: int, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    initial: Any, after: Any, rows: int, first: int, n_states: int, H_p: int, u0: int, u1: int,
) -> None:  # fmt: skip
    """Fill rows row0.. of S [n_states, row, H_p] with the states before step t, reset where they are."""
    n_batch, a_row, units = order.size, n_states * H_p, u1 - u0
    previous = t + 1 if reverse else t - 1
    continued = _running(active, previous, first, first + rows)
    for row in range(rows):
        is_reset = resets.size > 0 and resets[t * n_batch + order[first + row]]
        for k in range(n_states):
            to = k * s_slot + (row0 + row) * H_p + u0
            if is_reset:
                clear(S, to, units)
            elif row < continued:
                copy(S, to, after, (start[previous] + first + row) * a_row + k * H_p + u0, units)
            else:
                copy(S, to, initial, (k * n_batch + first + row) * H_p + u0, units)


@cached_jit
def backward_rows(
    cell: Any, x: Any, projected: bool, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    W: Any, b_ih: Any, U: Any, bias: Any, V: Any, initial: Any, after: Any, work: Any, recompute: bool,
    U_t: Any, dy: Any, d_states: Any, DV: Any, DR: Any, dr_row: int, DP: Any, dp_row: int, O: Any,
    n_states: int, n_saved: int, n_gates: int, n_stages: int, I: int, H: int, H_p: int,
    limit: int, team: Any, member: int, first: int, last: int, u0: int, u1: int,
) -> None:  # fmt: skip
    """Run the rows first..last of the batch back through all steps, for the units u0..u1.

    Arguments as `forward_rows`; W, b_ih, U, bias are read only if `recompute`, which rebuilds what was not saved.
    U_t: packed transposed recurrent weights; dy [T, B, H] or empty.
    d_states [n_states, B, H_p]: in, gradients of the last states; out, of the initial ones.
    DV, DR, DP, O: filled as `backward_step` says, a row for each valid step.
    work: S, C, T, D, E as `backward_step` has them; Q; and, if recompute, forward's X, P, R, C, S, N for `limit` rows.
    """
    S, C, T, D, E, Q, X, P, R, C_block, S_block, N_block = work
    n_steps, n_batch, rows = active.size, order.size, last - first
    s_slot, q_row, a_row, r_row = rows * H_p, n_saved * H_p, n_states * H_p, bias.size
    p_row, o_row, t_row = padded(n_gates * H_p, panel_of(V)), n_stages * H_p, padded(H_p, panel_of(V))
    units, own_y = u1 - u0, min(H, u1) - u0
    zeros = np.zeros(t_row, V.dtype)
    for k in range(n_states):
        for row in range(rows):
            source = (k * n_batch + first + row) * H_p + u0
            copy(D, k * s_slot + row * H_p + u0, d_states, source, units)
            copy(E, k * s_slot + row * H_p + u0, d_states, source, units)
    # The steps are walked from the end: "reverse" is the other way round, in time, of the forward loop's.
    s0, zero = integer(0), integer(0)
    while s0 < n_steps:
        s1 = _block_end(active, s0, not reverse, first, last, limit)
        if recompute:
            meet(team)
            block = integer(0)
            for s in range(s0, s1):
                t = s if reverse else n_steps - 1 - s
                n = _running(active, t, first, last)
                if s % team_size(team) == member:
                    _project(P, block * p_row, p_row, X, x, t, order, b_ih, projected, n, first, n_gates, I, H, H_p)
                _states_before(
                    S_block, limit * H_p, block, t, order, active, start, reverse, resets, initial, after, n, first,
                    n_states, H_p, u0, u1,
                )  # fmt: skip
                block += n
            meet(team)
            if not projected:
                product_of_units(P, zero, p_row, X, zero, I, W, zero, b_ih, zero, block, n_gates, H_p, u0, u1, I)
            forward_step(
                cell, P, zero, p_row, R, r_row, S_block, N_block, limit * H_p, Q, zero, q_row, C_block, V, U, bias,
                block, H, H_p, team, u0, u1,
            )  # fmt: skip
        q_block = 0
        for s in range(s0, s1):
            t = s if reverse else n_steps - 1 - s
            n = _running(active, t, first, last)
            if n == 0:
                continue
            if dy.size > 0:
                for row in range(n):
                    base = (t * n_batch + order[first + row]) * H + u0
                    for unit in range(own_y):
                        D[row * H_p + u0 + unit] += dy[base + unit]
            _states_before(
                S, s_slot, zero, t, order, active, start, reverse, resets, initial, after, n, first, n_states, H_p,
                u0, u1,
            )  # fmt: skip
            at = start[t] + first
            q0 = q_block if recompute else at * q_row
            backward_step(
                cell, D, E, S, s_slot, after, at * a_row, a_row, Q, q0, q_row,
                V, DV, first * H_p, n_batch * H_p, C, T, t_row, DR, at * dr_row, dr_row, DP, at * dp_row, dp_row,
                O, at * o_row, o_row, U_t, zeros, n, H, H_p, team, u0, u1,
            )  # fmt: skip
            q_block += n * q_row
            if resets.size > 0:
                for row in range(n):
                    if resets[t * n_batch + order[first + row]]:
                        for k in range(n_states):
                            clear(E, k * s_slot + row * H_p + u0, units)
            D, E = E, D
            following = _running(active, t + 1 if reverse else t - 1, first, last)
            for k in range(n_states):
                for row in range(following, n):
                    to, source = (k * n_batch + first + row) * H_p, k * s_slot + row * H_p
                    copy(d_states, to + u0, D, source + u0, units)
        s0 = s1


@cached_jit
def input_gradients(
    build: Any,
    dx: Any, I: int, DP: Any, dp_row: int, depth: int, W_t: Any, flat_rows: Any, first: int, last: int
) -> None:  # fmt: skip
    """dx[t, b] = dP[t, b] W for the valid steps first..last; W_t packed [depth, I], dx [T, B, I].

    DP [n_rows, dp_row]; flat_rows: the layout's.
    """
    columns = padded(I, panel_of(dx))
    block = np.empty(BLOCK_ROWS * columns, dx.dtype)
    zeros, zero = np.zeros(columns, dx.dtype), integer(0)
    for r0 in range(first, last, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, last - r0)
        product(block, zero, columns, DP, r0 * dp_row, dp_row, W_t, zero, zeros, zero, rows, I, depth)
        for row in range(rows):
            copy(dx, flat_rows[r0 + row] * I, block, row * columns, I)


@cached_jit
def weight_gradients(
    build: Any, a: Any, a_row: int, first: int, last: int, sums: Any,
    dw: Any, dw_row: int, x: Any, x_rows: Any, x_columns: int,
    du: Any, du_row: int, h: Any, h_rows: Any, h_columns: int,
) -> None:  # fmt: skip
    """sums[m] = sum_r a[r, m], dw[m, n] = sum_r a[r, m] x[r, n], du[m, n] = sum_r a[r, m] h[r, n], first <= m < last.

    a [R, a_row]; x_rows, h_rows [R]: offsets of the rows of x and h; no columns, no product.
    """
    n_rows, columns = x_rows.size, last - first
    room = padded(columns, TILE_ROWS) * DEPTH_OVER_ROWS
    a_packed = np.empty(room, a.dtype)
    b_packed, zeros = np.empty(panel_of(a) * DEPTH_OVER_ROWS, a.dtype), np.zeros(panel_of(a), a.dtype)
    for r0 in range(0, max(n_rows, 1), DEPTH_OVER_ROWS):
        steps = min(DEPTH_OVER_ROWS, n_rows - r0)
        pack_operand(a_packed, a, r0 * a_row + first, a_row, steps, columns)
        product_over_rows(dw, dw_row, first, last, a_packed, x, x_rows, r0, steps, x_columns, b_packed, zeros)
        product_over_rows(du, du_row, first, last, a_packed, h, h_rows, r0, steps, h_columns, b_packed, zeros)
        column_sums(sums, a, a_row, r0, steps, first, last)
