"""The gradients of x and of the weights, compiled: matrix products over all valid steps, shared out over a team.

One thread owns some of the steps of dx, and then some of the rows of the weights' gradients, for all steps.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.host import BLOCK_ROWS, DEPTH_OVER_ROWS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, address_of, reader, write
from rnn_gpu.kernels.numba_cpu.panels import pack_columns, without_padding
from rnn_gpu.kernels.numba_cpu.product import (
    clear,
    column_sums,
    copy,
    integer,
    lanes_of,
    pack_operand,
    padded,
    panel_of,
    product,
    product_over_rows,
)
from rnn_gpu.kernels.numba_cpu.simd import room_for
from rnn_gpu.kernels.numba_cpu.steps import buffer
from rnn_gpu.kernels.numba_cpu.team import meet

__all__ = ["address_of_gradients", "gradients"]


_KINDS = "aannainiaiaia?aaiaiaawwiiiiaNn"


@jit
def _share(build: Any, like: Any, numbers: Any, member: int) -> None:
    """What a member does."""
    (
        w_ih, W_t, gates, stages, x, I, flat_rows, n_rows, DP, dp_row, DR, dr_row, O, merged, dx, dw, dw_row, du,
        du_row, d_w_ih, d_w_hh, input_sums, recurrent_sums, n_gates, n_stages, H, H_p, work, offsets, team,
    ) = _read(numbers, like)  # fmt: skip
    members, width, from_x = offsets.shape[0], n_gates * H_p, w_ih.size > 0
    zeros = buffer(work, offsets, member, 3)
    clear(zeros, 0, zeros.size)
    in_order = stages[stages.size - 1]
    if from_x:
        pack_columns(w_ih, I, gates, in_order, n_gates, H, H_p, W_t, 0, member, members)
        meet(team)
        block = buffer(work, offsets, member, 0)
        first, last = n_rows * member // members, n_rows * (member + 1) // members
        _input_gradients(dx, I, DP, dp_row, width, W_t, flat_rows, block, zeros, first, last)
    a_packed, b_packed = buffer(work, offsets, member, 1), buffer(work, offsets, member, 2)
    zero, columns = integer(0), I if from_x else 0
    if merged:
        first, last = _part(zero, width, member, members, lanes_of(dx))
        _weight_gradients(
            DP, dp_row, first, last, n_rows, input_sums, dw, dw_row, x, flat_rows, I, columns, du, du_row, O, zero, H_p,
            H, a_packed, b_packed, zeros,
        )  # fmt: skip
    else:
        first, last = _part(zero, width, member, members, lanes_of(dx))
        _weight_gradients(
            DP, dp_row, first, last, n_rows, input_sums, dw, dw_row, x, flat_rows, I, columns, dw, dw_row, x, zero,
            zero, zero, a_packed, b_packed, zeros,
        )  # fmt: skip
        for k in range(n_stages):
            first, last = _part(stages[k] * H_p, stages[k + 1] * H_p, member, members, lanes_of(dx))
            _weight_gradients(
                DR, dr_row, first, last, n_rows, recurrent_sums, dw, dw_row, x, flat_rows, zero, zero, du, du_row,
                O, k * H_p, n_stages * H_p, H, a_packed, b_packed, zeros,
            )  # fmt: skip
    meet(team)
    if d_w_ih.size > 0:
        without_padding(d_w_ih, dw, gates, in_order, n_gates, I, dw_row, H, H_p, member, members)
    if d_w_hh.size > 0:
        without_padding(d_w_hh, du, gates, zero, in_order, H, du_row, H, H_p, member, members)


_read, _address = reader(_KINDS), address_of(_share)


@cached_jit
def address_of_gradients(build: Any, like: Any) -> int:
    """Where the code of a member's share is, for arrays of the type of `like`."""
    where: int = _address(build, like)
    return where


@cached_jit
def gradients(
    build: Any, code: int, w_ih: Any, W_t: Any, gates: Any, stages: Any, x: Any, I: int, flat_rows: Any, n_rows: int,
    DP: Any, dp_row: int, DR: Any, dr_row: int, O: Any, merged: bool, dx: Any, dw: Any, dw_row: int,
    du: Any, du_row: int, d_w_ih: Any, d_w_hh: Any, input_sums: Any, recurrent_sums: Any,
    n_gates: int, n_stages: int, H: int, H_p: int, work: Any, offsets: Any, team: Any, board: Any,
) -> None:  # fmt: skip
    """Compute, each member of the team a share; code: `address_of_gradients`:

        dx[r] = dP[r] W,   d_w_ih = sum_r dP[r] x[r]^T,   d_w_hh = sum_r dR[r] operand[r]^T,   sums of dP and of dR.

    w_ih [G*H, I], empty if x is W x_t already: then there is no dx and no d_w_ih. W_t: room for it packed.
    gates: blocks of w_hh, stage after stage, which end at stages[1:]; then 0..G-1.
    x, dx [T, B, I]; flat_rows [n_rows]: rows of x and dx of the valid steps, empty if they are all rows in order.
    DP [n_rows, dp_row], DR [n_rows, dr_row], O [n_rows, n_stages, H_p]; merged: DP is DR, and of one stage.
    dw [G*H_p, dw_row], du [S*H_p, du_row]: padded sums, du's in the order of the stages; copied to d_w_ih [G*H, I],
    d_w_hh [S*H, H] unless they are these, empty. input_sums [G*H_p], recurrent_sums [S*H_p], zero before.
    work, offsets: of each member a block of dx, packed A, packed B, zeros.
    """
    arguments = (
        w_ih, W_t, gates, stages, x, I, flat_rows, n_rows, DP, dp_row, DR, dr_row, O, merged, dx, dw, dw_row, du,
        du_row, d_w_ih, d_w_hh, input_sums, recurrent_sums, n_gates, n_stages, H, H_p, work, offsets, team,
    )  # fmt: skip
    numbers = room_for(team, ROOM)
    write(numbers, arguments)
    together(board, code, numbers, team)


@jit
def _part(begin: int, end: int, member: int, members: int, lanes: int) -> tuple[int, int]:
    """A member's part of begin..end, in whole vectors."""
    vectors = (end - begin) // lanes
    return begin + vectors * member // members * lanes, begin + vectors * (member + 1) // members * lanes


@jit
def _input_gradients(
    dx: Any, I: int, DP: Any, dp_row: int, depth: int, W_t: Any, flat_rows: Any, block: Any, zeros: Any,
    first: int, last: int
) -> None:  # fmt: skip
    """dx's rows of the valid steps first..last; W_t packed [depth, I]; block [BLOCK_ROWS, I padded]."""
    columns = padded(I, panel_of(dx))
    zero = integer(0)
    direct = columns == I and flat_rows.size == 0
    for r0 in range(first, last, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, last - r0)
        if direct:
            product(dx, r0 * I, I, DP, r0 * dp_row, dp_row, W_t, zero, zeros, zero, rows, I, depth)
        else:
            product(block, zero, columns, DP, r0 * dp_row, dp_row, W_t, zero, zeros, zero, rows, I, depth)
            for row in range(rows):
                to = flat_rows[r0 + row] if flat_rows.size > 0 else r0 + row
                copy(dx, to * I, block, row * columns, I)


@jit
def _weight_gradients(
    a: Any, a_row: int, first: int, last: int, n_rows: int, sums: Any,
    dw: Any, dw_row: int, x: Any, x_rows: Any, x_row: int, x_columns: int,
    du: Any, du_row: int, h: Any, h_start: int, h_row: int, h_columns: int, a_packed: Any, b_packed: Any,
    zeros: Any,
) -> None:  # fmt: skip
    """sums[m] = sum_r a[r, m], dw[m, n] = sum_r a[r, m] x[r, n], du[m, n] = sum_r a[r, m] h[r, n], first <= m < last.

    a [n_rows, a_row]; x's rows are those that x_rows names; no columns, no product.
    """
    zero = integer(0)
    for r0 in range(0, max(n_rows, 1), DEPTH_OVER_ROWS):
        steps = min(DEPTH_OVER_ROWS, n_rows - r0)
        pack_operand(a_packed, a, r0 * a_row + first, a_row, steps, last - first)
        product_over_rows(
            dw, dw_row, first, last, a_packed, x, x_rows, x_rows.size, zero, x_row, r0, steps, x_columns, b_packed,
            zeros,
        )  # fmt: skip
        product_over_rows(
            du, du_row, first, last, a_packed, h, x_rows, zero, h_start, h_row, r0, steps, h_columns, b_packed, zeros
        )  # fmt: skip
        column_sums(sums, a, a_row, r0, steps, first, last)
