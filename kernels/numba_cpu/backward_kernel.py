"""Backward, compiled: what each thread of a team does, from the last step to the first.

Who owns what of a step is as in `forward_kernel.py`. Steps are taken in blocks. While a block is run back, members that
have few rows or none of it, and the others afterwards, multiply what the block before has left: the gradients of the
gates' products, by which those of x and of the weights are matrix products, in `gradient_kernel.py`. So they are kept
for two blocks, not for all steps, and are multiplied while they are still in the cache.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.buffers import BACKWARD, ROOMS
from rnn_gpu.kernels.numba_cpu.cells import backward_step, forward_step
from rnn_gpu.kernels.numba_cpu.few_inputs import are_few, few_in_order, pack_few
from rnn_gpu.kernels.numba_cpu.gradient_kernel import PARTS, gradients_of_rows, part_of
from rnn_gpu.kernels.numba_cpu.host import BLOCK_ROWS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, kernel
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, reader, write
from rnn_gpu.kernels.numba_cpu.panels import (
    pack_backward,
    pack_columns,
    pack_forward,
    sums_in_order,
    without_padding,
)
from rnn_gpu.kernels.numba_cpu.product import add, clear, copy, integer, padded, panel_of, product_of_units
from rnn_gpu.kernels.numba_cpu.simd import room_for
from rnn_gpu.kernels.numba_cpu.steps import block_end, buffer, kept_or_gathered, own, project, running, states_before
from rnn_gpu.kernels.numba_cpu.team import meet

__all__ = ["ARGUMENTS", "backward", "backward_share"]


ARGUMENTS = {
    "raw": "t", "packed": "t", "pack": "?", "gates": "n", "stages": "n", "made": "t", "gates_back": "n",
    "stages_back": "n", "x": "a", "projected": "?", "order": "n", "active": "n", "start": "n", "begins": "n",
    "flat_rows": "n", "reverse": "?", "resets": "b", "initial": "a", "after": "a", "values": "a", "recompute": "?",
    "dy": "a", "d_states": "a", "DV": "w", "gradients": "t", "d_b_ih": "a", "d_b_hh": "a", "input_sums": "w",
    "recurrent_sums": "w", "dr_row": "i", "dp_row": "i", "dw_row": "i", "du_row": "i", "ring": "i", "most": "i",
    "merged": "?", "work": "a", "offsets": "N", "rooms": "a", "room_offsets": "N", "cuts": "n", "by_units": "?",
    "n_states": "i", "n_saved": "i", "n_gates": "i", "n_stages": "i", "I": "i", "H": "i", "H_p": "i", "alone": "n",
    "team": "n",
}  # fmt: skip
"""What a share takes, in order, each with its kind as `reader` has them."""


@kernel
def backward_share(cell: Any, real: Any, numbers: int, member: int) -> None:
    """What a member does."""
    (
        raw, packed, pack, gates, stages, made, gates_back, stages_back, x, projected, order, active, start, begins,
        flat_rows, reverse, resets, initial, after, values, recompute, dy, d_states, DV, gradients, d_b_ih, d_b_hh,
        input_sums, recurrent_sums, dr_row, dp_row, dw_row, du_row, ring, most, merged, work, offsets, rooms,
        room_offsets, cuts, by_units, n_states, n_saved, n_gates, n_stages, I, H, H_p, alone, team,
    ) = _read(numbers, real)  # fmt: skip
    W, b_ih, U, bias, V = packed
    U_t, W_t, DR, DP, O = made
    dx, dw, du, d_w_ih, d_w_hh = gradients
    everyone, n_recurrent = offsets.shape[0], stages[n_stages]
    first, last, u0, u1 = own(cuts, by_units, member, everyone, H_p, panel_of(V))
    pack_backward(raw[1], U_t, gates_back, stages_back, H, H_p, u0, u1, member, everyone)
    with_dx, few = dx.size > 0, are_few(I, projected)
    if with_dx and not projected:
        begin, end = n_gates * H * member // everyone, n_gates * H * (member + 1) // everyone
        if few:
            pack_few(raw[0], I, gates, n_recurrent, n_gates, H, W_t, begin, end)
        else:
            pack_columns(raw[0], I, gates, n_recurrent, n_gates, H, W_t, integer(0), begin, end, integer(0), I)
    if pack:
        pack_forward(raw, packed, gates, stages, n_gates, I, H, H_p, u0, u1, member, everyone, recompute, recompute)
    meet(team)
    partners, limit = team if by_units else alone, max(BLOCK_ROWS, last - first)
    S, C = buffer(work, offsets, member, BACKWARD.S), buffer(work, offsets, member, BACKWARD.C)
    T, D = buffer(work, offsets, member, BACKWARD.T), buffer(work, offsets, member, BACKWARD.D)
    E, P = buffer(work, offsets, member, BACKWARD.E), buffer(work, offsets, member, BACKWARD.P)
    Q = buffer(work, offsets, member, BACKWARD.Q) if recompute else values
    X, R = buffer(work, offsets, member, BACKWARD.X), buffer(work, offsets, member, BACKWARD.R)
    C_block, S_block = buffer(work, offsets, member, BACKWARD.C_block), buffer(work, offsets, member, BACKWARD.S_block)
    N_block = buffer(work, offsets, member, BACKWARD.N_block)
    dx_block, zeros = (
        buffer(rooms, room_offsets, member, ROOMS.dx_block),
        buffer(rooms, room_offsets, member, ROOMS.zeros),
    )
    a_packed = buffer(rooms, room_offsets, member, ROOMS.a_packed)
    b_packed = buffer(rooms, room_offsets, member, ROOMS.b_packed)
    n_steps, n_batch, rows = active.size, order.size, last - first
    s_slot, q_row, a_row, r_row = rows * H_p, n_saved * H_p, n_states * H_p, bias.size
    p_row, o_row, t_row = padded(n_gates * H_p, panel_of(V)), n_stages * H_p, padded(H_p, panel_of(V))
    units, own_y = u1 - u0, min(H, u1) - u0
    clear(zeros, 0, zeros.size)
    for k in range(n_states):
        for row in range(rows):
            source = (k * n_batch + first + row) * H_p + u0
            copy(D, k * s_slot + row * H_p + u0, d_states, source, units)
            copy(E, k * s_slot + row * H_p + u0, d_states, source, units)
    # The steps are walked from the end: "reverse" is the other way round, in time, of the forward loop's.
    s0, zero, blocks = integer(0), integer(0), integer(0)
    done_rows, done_from, done_in = integer(0), integer(0), integer(0)  # the block before: rows, and where they lie
    ended = False
    while not ended:  # the last time round there is no block to be run back, only the one before to be multiplied
        b0, b1 = s0, block_end(active, s0, n_steps, not reverse, zero, n_batch, most)
        low = b0 if reverse else n_steps - b1
        block_from, block_in = start[low], blocks % 2 * ring
        block_rows = start[low + b1 - b0] - block_from
        while s0 < b1:
            s1 = block_end(active, s0, b1, not reverse, first, last, limit) if recompute else b1
            if recompute:
                meet(partners)
                block = integer(0)
                for s in range(s0, s1):
                    t = s if reverse else n_steps - 1 - s
                    n = running(active, t, first, last)
                    project(
                        P, block * p_row, p_row, X, x, begins[t], order, b_ih, projected, n, first, n_gates, I, H,
                        H_p, u0, own_y,
                    )  # fmt: skip
                    states_before(
                        S_block, limit * H_p, block, t, order, active, start, reverse, resets, initial, after, n, first,
                        n_states, H_p, u0, u1,
                    )  # fmt: skip
                    block += n
                if not projected:
                    product_of_units(P, zero, p_row, X, zero, I, W, zero, b_ih, zero, block, n_gates, H_p, u0, u1, I)
                forward_step(
                    cell, P, zero, p_row, R, r_row, S_block, zero, limit * H_p, H_p, N_block, zero, limit * H_p, H_p,
                    Q, zero, q_row, True, C_block, limit * H_p, V, (U, raw[1], gates, integer(-1)), bias, block, H, H_p,
                    partners, u0, u1,
                )  # fmt: skip
            q_block = 0
            for s in range(s0, s1):
                t = s if reverse else n_steps - 1 - s
                n = running(active, t, first, last)
                if n == 0:
                    continue
                if dy.size > 0:
                    for row in range(n):
                        add(D, row * H_p + u0, dy, (begins[t] + order[first + row]) * H + u0, own_y)
                states, i0, i_slot, i_row = kept_or_gathered(
                    S, s_slot, t, order, active, start, reverse, resets, initial, after, n, first, n_states, H_p, u0, u1
                )
                at = start[t] + first
                q0, row0 = q_block if recompute else at * q_row, at - block_from + block_in
                backward_step(
                    cell, D, E, s_slot, states, i0, i_slot, i_row, after, at * a_row, a_row, Q, q0, q_row,
                    V, DV, first * H_p, n_batch * H_p, C, T, t_row, DR, row0 * dr_row, dr_row, DP, row0 * dp_row,
                    dp_row, O, row0 * o_row, o_row, U_t, zeros, n, H, H_p, partners, u0, u1,
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
        ended = b0 == n_steps
        if blocks > 0 or ended:
            begin, end = part_of(
                active, b0, b1, reverse, cuts, by_units, done_rows, n_recurrent * H,
                0 if projected else n_gates * I * (1 + with_dx), member, everyone,
            )  # fmt: skip
            gradients_of_rows(
                DP, done_in * dp_row, dp_row, DR, done_in * dr_row, dr_row, O, done_in * o_row, o_row, x, dx, W_t,
                dw, dw_row, du, du_row, dx_block, a_packed, b_packed, zeros, input_sums, recurrent_sums, flat_rows,
                stages, n_stages, done_from, flat_rows.size == 0, done_rows, blocks > 1, merged, projected, with_dx,
                n_gates, I, H, H_p, begin * 2 * PARTS + end,
            )  # fmt: skip
        meet(team)
        done_rows, done_from, done_in, blocks = block_rows, block_from, block_in, blocks + 1
    if d_w_ih.size > 0 and few:
        few_in_order(d_w_ih, dw, dw_row, gates, n_recurrent, n_gates, I, H, member, everyone)
    elif d_w_ih.size > 0:
        without_padding(d_w_ih, dw, gates, n_recurrent, n_gates, I, dw_row, H, member, everyone)
    if d_w_hh.size > 0:
        without_padding(d_w_hh, du, gates, zero, n_recurrent, H, du_row, H, member, everyone)
    if member == 0:
        if d_b_ih.size > 0:
            sums_in_order(d_b_ih, input_sums, gates, n_recurrent, n_gates, H)
        if d_b_hh.size > 0:
            sums_in_order(d_b_hh, recurrent_sums, gates, zero, n_recurrent, H)


_read = reader("".join(ARGUMENTS.values()))


@cached_jit
def backward(
    build: Any, code: int, raw: Any, packed: Any, pack: bool, gates: Any, stages: Any, made: Any, gates_back: Any,
    stages_back: Any, x: Any, projected: bool, order: Any, active: Any, start: Any, begins: Any, flat_rows: Any,
    reverse: bool, resets: Any, initial: Any, after: Any, values: Any, recompute: bool, dy: Any, d_states: Any,
    DV: Any, gradients: Any, d_b_ih: Any, d_b_hh: Any, input_sums: Any, recurrent_sums: Any, dr_row: int,
    dp_row: int, dw_row: int, du_row: int, ring: int, most: int, merged: bool, work: Any, offsets: Any, rooms: Any,
    room_offsets: Any, cuts: Any, by_units: bool, n_states: int, n_saved: int, n_gates: int, n_stages: int, I: int,
    H: int, H_p: int, alone: Any, team: Any, board: Any,
) -> None:  # fmt: skip
    """Run the batch back through all steps, each member of the team a share; code: the cell's `backward_share`.

    Arguments as `forward` has them; what is rebuilt if `recompute` needs its weights too. pack: whether what is read of
    them is to be packed: that of frozen ones has been, and others may be reading it.
    gates: blocks of w_hh, stage after stage, which end at stages[1:]; then 0..G-1.
    made: U_t and W_t, room for the transposed weights, packed, for which gates_back and stages_back are as
    `pack_backward` has them; and DR, DP, O as `backward_step` has them, with room for 2 * ring rows, or
    ring if one block holds all steps. A block is so many steps as have at most `most` rows, or one step.
    flat_rows [n_rows]: rows of x and dx of the valid steps, empty if they are all rows in order.
    dy [T, B, H] or empty. d_states [n_states, B, H_p]: in, gradients of the last states; out, of the initial ones.
    gradients: dx [T, B, I], empty if it is not wanted; dw [G*H, dw_row], or [I, dw_row] of few inputs, and
    du [S*H, du_row], sums with padded rows, du's in the order of the stages; and what they are copied to,
    d_w_ih [G*H, I], d_w_hh [S*H, H], empty if they are so already.
    d_b_ih [G*H], d_b_hh [S*H], empty if they are not wanted: the sums of dP and of dR.
    DV, and room for these sums, input_sums [G*H], recurrent_sums [S*H]: zero before. merged: DP is DR, and of one
    stage, and so are the sums.
    work, offsets: of each member `BackwardBuffers`, C_block and S_block the same for the whole team if by_units.
    rooms, room_offsets: of each member `RoomBuffers`.
    """
    arguments = (
        raw, packed, pack, gates, stages, made, gates_back, stages_back, x, projected, order, active, start, begins,
        flat_rows, reverse, resets, initial, after, values, recompute, dy, d_states, DV, gradients, d_b_ih, d_b_hh,
        input_sums, recurrent_sums, dr_row, dp_row, dw_row, du_row, ring, most, merged, work, offsets, rooms,
        room_offsets, cuts, by_units, n_states, n_saved, n_gates, n_stages, I, H, H_p, alone, team,
    )  # fmt: skip
    numbers = room_for(team, ROOM)
    write(numbers, arguments)
    together(board, code, numbers, team)
