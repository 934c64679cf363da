"""The loops over time, compiled: forward and backward over a slice of the batch, and the products after the loop.

What one thread owns: a slice of the rows, from the first step to the last, with its states and scratch in cache; no
barrier between threads. Backward's weight gradients come after, a slice of their rows a thread.
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
    product_over_rows,
)

__all__ = ["backward_rows", "forward_rows", "input_gradients", "weight_gradients"]


@jit
def _running(active: Any, t: int, first: int, last: int) -> int:
    """How many of the rows first..last run at step t; 0 outside the sequence."""
    return max(0, min(last, active[t]) - first) if 0 <= t < active.size else 0


@jit
def _project(
    P: Any, p0: int, p_row: int, X: Any, x: Any, t: int, order: Any, W: Any, b_ih: Any, projected: bool,
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
    W: Any, b_ih: Any, U: Any, bias: Any, V: Any, initial: Any, y: Any, last_states: Any, after: Any, saved: Any,
    keep_states: bool, keep_saved: bool, first: int, last: int, n_states: int, n_saved: int, n_scratch: int,
    n_gates: int, I: int, H: int, H_p: int,
) -> None:  # fmt: skip
    """Run the rows first..last of the batch through all steps.

    x [T, B, I]; order, active, start: the layout; resets [T, B] or empty; W, U packed, b_ih, bias padded; V as the
    step's; initial, last_states [n_states, B, H_p] in our order; y [T, B, H] in the caller's order.
    after [n_rows, n_states, H_p] if keep_states; saved [n_rows, n_saved, H_p] if keep_saved.
    """
    n_steps, n_batch, rows = active.size, order.size, last - first
    panel = panel_of(V)
    s_slot, q_row, a_row, p_row, r_row = (
        rows * H_p,
        n_saved * H_p,
        n_states * H_p,
        padded(n_gates * H_p, panel),
        bias.size,
    )
    limit = max(BLOCK_ROWS, rows)
    X, P = np.empty(limit * I, V.dtype), np.zeros(limit * p_row, V.dtype)
    R, C = np.empty(rows * r_row, V.dtype), np.empty(n_scratch * s_slot, V.dtype)
    Q = saved if keep_saved else np.empty(rows * q_row, V.dtype)
    S, N = np.empty(n_states * s_slot, V.dtype), np.empty(n_states * s_slot, V.dtype)
    for k in range(n_states):
        copy(S, k * s_slot, initial, (k * n_batch + first) * H_p, s_slot)
        copy(N, k * s_slot, initial, (k * n_batch + first) * H_p, s_slot)
    s0, zero = integer(0), integer(0)
    while s0 < n_steps:
        s1 = _block_end(active, s0, reverse, first, last, limit)
        block = integer(0)
        for s in range(s0, s1):
            t = n_steps - 1 - s if reverse else s
            n = _running(active, t, first, last)
            _project(P, block * p_row, p_row, X, x, t, order, W, b_ih, projected, n, first, n_gates, I, H, H_p)
            block += n
        if not projected:
            product(P, zero, p_row, X, zero, I, W, zero, b_ih, zero, block, n_gates * H_p, I)
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
                            clear(S, k * s_slot + row * H_p, H_p)
            q0 = (start[t] + first) * q_row if keep_saved else 0
            forward_step(cell, P, p0, p_row, R, r_row, S, N, s_slot, Q, q0, q_row, C, V, U, bias, n, H, H_p)
            p0 += n * p_row
            for row in range(n):
                if keep_states:
                    for k in range(n_states):
                        copy(after, (start[t] + first + row) * a_row + k * H_p, N, k * s_slot + row * H_p, H_p)
                copy(y, (t * n_batch + order[first + row]) * H, N, row * H_p, H)
            S, N = N, S
            following = _running(active, t - 1 if reverse else t + 1, first, last)
            for k in range(n_states):
                for row in range(following, n):
                    copy(last_states, (k * n_batch + first + row) * H_p, S, k * s_slot + row * H_p, H_p)
        s0 = s1


@jit
def _states_before(
    S: Any, s_slot: int, row0: int, t: int, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    initial: Any, after: Any, rows: int, first: int, n_states: int, H_p: int,
) -> None:  # fmt: skip
    """Fill rows row0.. of S [n_states, row, H_p] with the states before step t, reset where they are."""
    n_batch, a_row = order.size, n_states * H_p
    previous = t + 1 if reverse else t - 1
    continued = _running(active, previous, first, first + rows)
    for row in range(rows):
        is_reset = resets.size > 0 and resets[t * n_batch + order[first + row]]
        for k in range(n_states):
            to = k * s_slot + (row0 + row) * H_p
            if is_reset:
                clear(S, to, H_p)
            elif row < continued:
                copy(S, to, after, (start[previous] + first + row) * a_row + k * H_p, H_p)
            else:
                copy(S, to, initial, (k * n_batch + first + row) * H_p, H_p)


@cached_jit
def backward_rows(
    cell: Any, x: Any, projected: bool, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    W: Any, b_ih: Any, U: Any, bias: Any, V: Any, initial: Any, after: Any, saved: Any, recompute: bool,
    U_t: Any, dy: Any, d_states: Any, DV: Any, DR: Any, dr_row: int, DP: Any, dp_row: int, O: Any,
    first: int, last: int, n_states: int, n_saved: int, n_scratch: int, n_gates: int, n_stages: int,
    I: int, H: int, H_p: int,
) -> None:  # fmt: skip
    """Run the rows first..last of the batch back through all steps.

    Arguments as `forward_rows`; W, b_ih, U, bias are read only if `recompute`, which rebuilds what was not saved.
    U_t: packed transposed recurrent weights; dy [T, B, H] or empty.
    d_states [n_states, B, H_p]: in, gradients of the last states; out, of the initial ones.
    DV, DR, DP, O: filled as `backward_step` says, a row for each valid step.
    """
    n_steps, n_batch, rows = active.size, order.size, last - first
    panel = panel_of(V)
    s_slot, q_row, a_row, p_row, r_row = (
        rows * H_p,
        n_saved * H_p,
        n_states * H_p,
        padded(n_gates * H_p, panel),
        bias.size,
    )
    o_row, t_row = n_stages * H_p, padded(H_p, panel)
    limit = max(BLOCK_ROWS, rows)
    deep = limit if recompute else 0
    X, P, R = np.empty(deep * I, V.dtype), np.zeros(deep * p_row, V.dtype), np.empty(deep * r_row, V.dtype)
    S_block, N_block = np.empty(n_states * deep * H_p, V.dtype), np.empty(n_states * deep * H_p, V.dtype)
    C_block = np.empty(n_scratch * deep * H_p, V.dtype)
    Q = np.empty(deep * q_row, V.dtype) if recompute else saved
    S, C = np.empty(n_states * s_slot, V.dtype), np.empty(n_scratch * s_slot, V.dtype)
    T = np.empty(n_stages * rows * t_row, V.dtype)
    zeros = np.zeros(t_row, V.dtype)
    D, E = np.empty(n_states * s_slot, V.dtype), np.empty(n_states * s_slot, V.dtype)
    for k in range(n_states):
        copy(D, k * s_slot, d_states, (k * n_batch + first) * H_p, s_slot)
        copy(E, k * s_slot, d_states, (k * n_batch + first) * H_p, s_slot)
    # The steps are walked from the end: "reverse" is the other way round, in time, of the forward loop's.
    s0, zero = integer(0), integer(0)
    while s0 < n_steps:
        s1 = _block_end(active, s0, not reverse, first, last, limit)
        if recompute:
            block = integer(0)
            for s in range(s0, s1):
                t = s if reverse else n_steps - 1 - s
                n = _running(active, t, first, last)
                _project(P, block * p_row, p_row, X, x, t, order, W, b_ih, projected, n, first, n_gates, I, H, H_p)
                _states_before(
                    S_block, deep * H_p, block, t, order, active, start, reverse, resets, initial, after, n, first,
                    n_states, H_p,
                )  # fmt: skip
                block += n
            if not projected:
                product(P, zero, p_row, X, zero, I, W, zero, b_ih, zero, block, n_gates * H_p, I)
            forward_step(
                cell,
                P,
                0,
                p_row,
                R,
                r_row,
                S_block,
                N_block,
                deep * H_p,
                Q,
                0,
                q_row,
                C_block,
                V,
                U,
                bias,
                block,
                H,
                H_p,
            )
        q_block = 0
        for s in range(s0, s1):
            t = s if reverse else n_steps - 1 - s
            n = _running(active, t, first, last)
            if n == 0:
                continue
            if dy.size > 0:
                for row in range(n):
                    base = (t * n_batch + order[first + row]) * H
                    for unit in range(H):
                        D[row * H_p + unit] += dy[base + unit]
            _states_before(
                S, s_slot, 0, t, order, active, start, reverse, resets, initial, after, n, first, n_states, H_p
            )
            at = start[t] + first
            q0 = q_block if recompute else at * q_row
            backward_step(
                cell, D, E, S, s_slot, after, at * a_row, a_row, Q, q0, q_row,
                V, DV, first * H_p, n_batch * H_p, C, T, t_row, DR, at * dr_row, dr_row, DP, at * dp_row, dp_row,
                O, at * o_row, o_row, U_t, zeros, n, H, H_p,
            )  # fmt: skip
            q_block += n * q_row
            if resets.size > 0:
                for row in range(n):
                    if resets[t * n_batch + order[first + row]]:
                        for k in range(n_states):
                            clear(E, k * s_slot + row * H_p, H_p)
            D, E = E, D
            following = _running(active, t + 1 if reverse else t - 1, first, last)
            for k in range(n_states):
                for row in range(following, n):
                    copy(d_states, (k * n_batch + first + row) * H_p, D, k * s_slot + row * H_p, H_p)
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
