"""Forward, compiled: what each thread of a team does from the caller's arrays to the last step.

What one thread owns: a slice of the rows, from the first step to the last, with its states and scratch in cache, and no
barrier between threads; or, where a slice would be few rows beside much weight, a slice of the hidden units of all
rows, whose recurrent weights stay in its cache, with a meeting of the team before each recurrent product. Where there
is but one row, a second thread makes W x + b for the first, some blocks of steps ahead.
All arrays are flat; `layout.py` tells where the values of row b at step t lie.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.buffers import FORWARD
from rnn_gpu.kernels.numba_cpu.cells import forward_step
from rnn_gpu.kernels.numba_cpu.host import AHEAD_BLOCKS, AHEAD_ROWS, BLOCK_ROWS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, kernel
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, reader, write
from rnn_gpu.kernels.numba_cpu.panels import pack_forward, product_of_weights
from rnn_gpu.kernels.numba_cpu.product import clear, copy, integer, padded, panel_of
from rnn_gpu.kernels.numba_cpu.simd import room_for
from rnn_gpu.kernels.numba_cpu.steps import block_end, buffer, kept_or_gathered, own, project, running
from rnn_gpu.kernels.numba_cpu.team import MADE, USED, await_count, increment, meet

__all__ = ["ARGUMENTS", "PACK", "PACKED", "PACK_PANELS", "forward", "forward_share"]


ARGUMENTS = {
    "raw": "t", "packed": "t", "gates": "n", "stages": "n", "pack": "i", "x": "a", "projected": "?", "in_order": "?",
    "order": "n", "active": "n", "start": "n", "begins": "n", "reverse": "?", "resets": "b", "initial": "a", "y": "a",
    "last_states": "a", "after": "a", "values": "a", "work": "a", "offsets": "N", "cuts": "n", "by_units": "?",
    "ahead": "?", "keep_states": "?", "keep_saved": "?", "n_states": "i", "n_saved": "i", "n_gates": "i", "I": "i",
    "H": "i", "H_p": "i", "alone": "n", "team": "n",
}  # fmt: skip
"""What a share takes, in order, each with its kind as `reader` has them."""

PACKED, PACK, PACK_PANELS = 0, 1, 2
"""What is to be done about the weights: nothing; to pack them; or to pack each panel when it is used, for once."""


@kernel
def forward_share(cell: Any, real: Any, numbers: int, member: int) -> None:
    """What a member does."""
    (
        raw, packed, gates, stages, pack, x, projected, in_order, order, active, start, begins, reverse, resets,
        initial, y, last_states, after, values, work, offsets, cuts, by_units, ahead, keep_states, keep_saved, n_states,
        n_saved, n_gates, I, H, H_p, alone, team,
    ) = _read(numbers, real)  # fmt: skip
    W, b_ih, U, bias, V = packed
    members = offsets.shape[0]
    owner = integer(0) if ahead else member
    first, last, u0, u1 = own(cuts, by_units, owner, members, H_p, panel_of(V))
    makes, steps = not ahead or member == 1, not ahead or member == 0
    if pack != PACKED:
        pack_forward(raw, packed, gates, stages, n_gates, I, H, H_p, u0, u1, member, members, True, pack == PACK)
        meet(team)
    room = W.size // members * member if pack == PACK_PANELS else integer(-1)
    input_weights, recurrent_weights = (W, raw[0], gates, room), (U, raw[1], gates, room)
    partners, limit = team if by_units else alone, AHEAD_ROWS if ahead else max(BLOCK_ROWS, last - first)
    X, P = buffer(work, offsets, member, FORWARD.X), buffer(work, offsets, owner, FORWARD.P)
    R, C = buffer(work, offsets, member, FORWARD.R), buffer(work, offsets, member, FORWARD.C)
    S, N = buffer(work, offsets, member, FORWARD.S), buffer(work, offsets, member, FORWARD.N)
    Q = values if keep_saved else buffer(work, offsets, member, FORWARD.Q)
    n_steps, n_batch, rows = active.size, order.size, last - first
    s_slot, q_row, a_row, r_row = rows * H_p, n_saved * H_p, n_states * H_p, bias.size
    p_row = padded(n_gates * H_p, panel_of(V))
    units, own_y = u1 - u0, min(H, u1) - u0
    for k in range(n_states if steps and not keep_states else 0):
        for row in range(rows):
            source = (k * n_batch + first + row) * H_p + u0
            copy(S, k * s_slot + row * H_p + u0, initial, source, units)
            copy(N, k * s_slot + row * H_p + u0, initial, source, units)
    s0, zero, x_start, blocks = integer(0), integer(0), integer(0), integer(0)
    as_it_lies = in_order and rows == n_batch and not projected
    x_rows = x if as_it_lies else X
    while s0 < n_steps:
        s1 = block_end(active, s0, n_steps, reverse, first, last, limit)
        p0 = blocks % AHEAD_BLOCKS * limit * p_row if ahead else zero
        if makes:
            if ahead:
                await_count(team, USED, blocks - AHEAD_BLOCKS + 1)
            block = integer(0)
            for s in range(s0, s1):
                t = n_steps - 1 - s if reverse else s
                n = running(active, t, first, last)
                if not as_it_lies:
                    project(
                        P, block * p_row, p_row, X, x, begins[t], order, b_ih, projected, n, first, n_gates, I, H, H_p,
                        u0, own_y,
                    )  # fmt: skip
                block += n
            if not projected:
                product_of_weights(
                    P, p0, p_row, x_rows, x_start, I, input_weights, zero, b_ih, zero, block, stages[stages.size - 1],
                    n_gates, H, H_p, u0, u1, I,
                )  # fmt: skip
                if as_it_lies:
                    x_start += block * I
            if ahead:
                increment(team, MADE, 1)
        else:
            await_count(team, MADE, blocks + 1)
        for s in range(s0, s1 if steps else s0):
            t = n_steps - 1 - s if reverse else s
            n = running(active, t, first, last)
            if n == 0:
                continue
            old, old_at, old_slot, old_row = S, zero, s_slot, H_p
            new, new_at, new_slot, new_row = N, zero, s_slot, H_p
            if keep_states:  # they are written where they are kept, and read there by the next step
                new, new_at, new_slot, new_row = after, (start[t] + first) * a_row, H_p, a_row
                old, old_at, old_slot, old_row = kept_or_gathered(
                    S, s_slot, t, order, active, start, reverse, resets, initial, after, n, first, n_states, H_p, u0, u1
                )
            elif resets.size > 0:
                for row in range(n):
                    if resets[t * n_batch + order[first + row]]:
                        for k in range(n_states):
                            clear(S, k * s_slot + row * H_p + u0, units)
            q0 = (start[t] + first) * q_row if keep_saved else 0
            forward_step(
                cell, P, p0, p_row, R, r_row, old, old_at, old_slot, old_row, new, new_at, new_slot, new_row, Q, q0,
                q_row, keep_saved, C, s_slot, V, recurrent_weights, bias, n, H, H_p, partners, u0, u1,
            )  # fmt: skip
            p0 += n * p_row
            for row in range(n):
                copy(y, (begins[t] + order[first + row]) * H + u0, new, new_at + row * new_row + u0, own_y)
            S, N = N, S  # the others may still be reading what were states before
            following = running(active, t - 1 if reverse else t + 1, first, last)
            for k in range(n_states):
                for row in range(following, n):
                    to, source = (k * n_batch + first + row) * H_p, new_at + k * new_slot + row * new_row
                    copy(last_states, to + u0, new, source + u0, units)
        if steps and ahead:
            increment(team, USED, 1)
        s0, blocks = s1, blocks + 1


_read = reader("".join(ARGUMENTS.values()))


@cached_jit
def forward(
    build: Any, code: int, raw: Any, packed: Any, gates: Any, stages: Any, pack: int, x: Any, projected: bool,
    in_order: bool, order: Any, active: Any, start: Any, begins: Any, reverse: bool, resets: Any, initial: Any, y: Any,
    last_states: Any, after: Any, values: Any, work: Any, offsets: Any, cuts: Any, by_units: bool, ahead: bool,
    keep_states: bool, keep_saved: bool, n_states: int, n_saved: int, n_gates: int, I: int, H: int, H_p: int,
    alone: Any, team: Any, board: Any,
) -> None:  # fmt: skip
    """Run the batch through all steps, each member of the team a share; code: the cell's `forward_share`.

    raw, packed, gates, stages: as `pack_forward` has them. pack: PACKED, PACK, or PACK_PANELS, where W and U are one
    array with room for a panel of each member.
    x [T, B, I]; in_order: whether its steps and all their rows are taken as they lie; order, active, start,
    begins: the layout.
    resets [T, B] or empty.
    initial, last_states [n_states, B, H_p] in our order; y [T, B, H] in the caller's order.
    after [n_rows, n_states, H_p] if keep_states; values [n_rows, n_saved, H_p] if keep_saved.
    work, offsets: of each member `ForwardBuffers`, limit the larger of BLOCK_ROWS and its rows; C, S and N the same for
    the whole team if by_units.
    cuts, by_units: as `own` has them. ahead: the second member makes W x + b for the first, who owns all; limit is
    AHEAD_ROWS then; X is the second's, and P the first's, with room for AHEAD_BLOCKS times as many.
    alone: the team of one.
    """
    arguments = (
        raw, packed, gates, stages, pack, x, projected, in_order, order, active, start, begins, reverse, resets,
        initial, y, last_states, after, values, work, offsets, cuts, by_units, ahead, keep_states, keep_saved, n_states,
        n_saved, n_gates, I, H, H_p, alone, team,
    )  # fmt: skip
    numbers = room_for(team, ROOM)
    write(numbers, arguments)
    together(board, code, numbers, team)
