"""Backward through time, compiled: what each thread of a team does, from the last step to the first.

Who owns what is as in `forward_kernel.py`. The gradients of the gates' products are kept for all steps: those of x and
of the weights are matrix products of them, in `gradient_kernel.py`.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.cells import backward_step, forward_step
from rnn_gpu.kernels.numba_cpu.host import BLOCK_ROWS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, address_of, reader, write
from rnn_gpu.kernels.numba_cpu.panels import pack_backward, pack_forward
from rnn_gpu.kernels.numba_cpu.product import add, clear, copy, integer, padded, panel_of, product_of_units
from rnn_gpu.kernels.numba_cpu.simd import room_for
from rnn_gpu.kernels.numba_cpu.steps import block_end, buffer, own, project, running
from rnn_gpu.kernels.numba_cpu.team import meet

__all__ = ["address_of_backward", "backward"]


@jit
def _states_before(
    S: Any, s_slot: int, row0: int, t: int, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    initial: Any, after: Any, rows: int, first: int, n_states: int, H_p: int, u0: int, u1: int,
) -> None:  # fmt: skip
    """Fill rows row0.. of S [n_states, row, H_p] with the states before step t, reset where they are."""
    n_batch, a_row, units = order.size, n_states * H_p, u1 - u0
    previous = t + 1 if reverse else t - 1
    continued = running(active, previous, first, first + rows)
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


_KINDS = "ttnnanna?nnn?baaa?aawaiaiaaNn?iiiiiiinn"


@jit
def _share(cell: Any, like: Any, numbers: Any, member: int) -> None:
    """What a member does."""
    (
        raw, packed, gates, stages, U_t, gates_back, stages_back, x, projected, order, active, start, reverse,
        resets, initial, after, values, recompute, dy, d_states, DV, DR, dr_row, DP, dp_row, O, work, offsets,
        cuts, by_units, n_states, n_saved, n_gates, n_stages, I, H, H_p, alone, team,
    ) = _read(numbers, like)  # fmt: skip
    W, b_ih, U, bias, V = packed
    members = offsets.shape[0]
    pack_backward(raw[1], U_t, gates_back, stages_back, H, H_p, member, members)
    pack_forward(raw, packed, gates, stages, n_gates, I, H, H_p, member, members, recompute, recompute)
    meet(team)
    first, last, u0, u1 = own(cuts, by_units, member, members, H_p)
    partners, mine = (team, member) if by_units else (alone, 0)
    members, limit = members if by_units else 1, max(BLOCK_ROWS, last - first)
    S, C, T = buffer(work, offsets, member, 0), buffer(work, offsets, member, 1), buffer(work, offsets, member, 2)
    D, E = buffer(work, offsets, member, 3), buffer(work, offsets, member, 4)
    Q = buffer(work, offsets, member, 5) if recompute else values
    X, P, R = buffer(work, offsets, member, 6), buffer(work, offsets, member, 7), buffer(work, offsets, member, 8)
    C_block, S_block = buffer(work, offsets, member, 9), buffer(work, offsets, member, 10)
    N_block = buffer(work, offsets, member, 11)
    n_steps, n_batch, rows = active.size, order.size, last - first
    s_slot, q_row, a_row, r_row = rows * H_p, n_saved * H_p, n_states * H_p, bias.size
    p_row, o_row, t_row = padded(n_gates * H_p, panel_of(V)), n_stages * H_p, padded(H_p, panel_of(V))
    units, own_y = u1 - u0, min(H, u1) - u0
    zeros = buffer(work, offsets, member, 12)
    clear(zeros, 0, t_row)
    for k in range(n_states):
        for row in range(rows):
            source = (k * n_batch + first + row) * H_p + u0
            copy(D, k * s_slot + row * H_p + u0, d_states, source, units)
            copy(E, k * s_slot + row * H_p + u0, d_states, source, units)
    # The steps are walked from the end: "reverse" is the other way round, in time, of the forward loop's.
    s0, zero = integer(0), integer(0)
    while s0 < n_steps:
        s1 = block_end(active, s0, not reverse, first, last, limit)
        if recompute:
            meet(partners)
            block = integer(0)
            for s in range(s0, s1):
                t = s if reverse else n_steps - 1 - s
                n = running(active, t, first, last)
                if s % members == mine:
                    project(
                        P, block * p_row, p_row, X, x, t, order, n_batch, b_ih, projected, n, first, n_gates, I, H, H_p
                    )
                _states_before(
                    S_block, limit * H_p, block, t, order, active, start, reverse, resets, initial, after, n, first,
                    n_states, H_p, u0, u1,
                )  # fmt: skip
                block += n
            meet(partners)
            if not projected:
                product_of_units(P, zero, p_row, X, zero, I, W, zero, b_ih, zero, block, n_gates, H_p, u0, u1, I)
            forward_step(
                cell, P, zero, p_row, R, r_row, S_block, N_block, limit * H_p, Q, zero, q_row, C_block, V,
                (U, raw[1], gates, integer(-1)), bias, block, H, H_p, partners, u0, u1,
            )  # fmt: skip
        q_block = 0
        for s in range(s0, s1):
            t = s if reverse else n_steps - 1 - s
            n = running(active, t, first, last)
            if n == 0:
                continue
            if dy.size > 0:
                for row in range(n):
                    add(D, row * H_p + u0, dy, (t * n_batch + order[first + row]) * H + u0, own_y)
            _states_before(
                S, s_slot, zero, t, order, active, start, reverse, resets, initial, after, n, first, n_states, H_p,
                u0, u1,
            )  # fmt: skip
            at = start[t] + first
            q0 = q_block if recompute else at * q_row
            backward_step(
                cell, D, E, S, s_slot, after, at * a_row, a_row, Q, q0, q_row,
                V, DV, first * H_p, n_batch * H_p, C, T, t_row, DR, at * dr_row, dr_row, DP, at * dp_row, dp_row,
                O, at * o_row, o_row, U_t, zeros, n, H, H_p, partners, u0, u1,
            )  # fmt: skip
            q_block += n * q_row
            if resets.size > 0:
                for row in range(n):
                    if resets[t * n_batch + order[first + row]]:
                        for k in range(n_states):
                            clear(E, k * s_slot + row * H_p + u0, units)
            D, E = E, D
            following = running(active, t + 1 if reverse else t - 1, first, last)
            for k in range(n_states):
                for row in range(following, n):
                    to, source = (k * n_batch + first + row) * H_p, k * s_slot + row * H_p
                    copy(d_states, to + u0, D, source + u0, units)
        s0 = s1


_read, _address = reader(_KINDS), address_of(_share)


@cached_jit
def address_of_backward(cell: Any, like: Any) -> int:
    """Where the code of a member's share is, for arrays of the type of `like`."""
    where: int = _address(cell, like)
    return where


@cached_jit
def backward(
    build: Any, code: int, raw: Any, packed: Any, gates: Any, stages: Any, U_t: Any, gates_back: Any, stages_back: Any,
    x: Any, projected: bool, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    initial: Any, after: Any, values: Any, recompute: bool, dy: Any, d_states: Any, DV: Any,
    DR: Any, dr_row: int, DP: Any, dp_row: int, O: Any, work: Any, offsets: Any, cuts: Any, by_units: bool,
    n_states: int, n_saved: int, n_gates: int, n_stages: int, I: int, H: int, H_p: int,
    alone: Any, team: Any, board: Any,
) -> None:  # fmt: skip
    """Run the batch back through all steps, each member of the team a share; code: `address_of_backward`.

    Arguments as `forward` has them; what is rebuilt if `recompute` needs its weights too.
    U_t, gates_back, stages_back: as `pack_backward` has them. dy [T, B, H] or empty.
    d_states [n_states, B, H_p]: in, gradients of the last states; out, of the initial ones.
    DV, DR, DP, O: filled as `backward_step` says, a row for each valid step.
    work, offsets: of each member S, C, T, D, E as `backward_step` has them; Q; and, if recompute, forward's
    X, P, R, C, S, N for as many rows as are rebuilt at a time; zeros [t_row].
    """
    arguments = (
        raw, packed, gates, stages, U_t, gates_back, stages_back, x, projected, order, active, start, reverse,
        resets, initial, after, values, recompute, dy, d_states, DV, DR, dr_row, DP, dp_row, O, work, offsets,
        cuts, by_units, n_states, n_saved, n_gates, n_stages, I, H, H_p, alone, team,
    )  # fmt: skip
    numbers = room_for(team, ROOM)
    write(numbers, arguments)
    together(board, code, numbers, team)
