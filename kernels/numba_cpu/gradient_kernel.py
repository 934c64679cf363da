"""The gradients of x and of the weights, compiled: matrix products over the steps that have just been run back.

The members of a team share them: of each block of steps a member takes some rows of dx, and some rows of the weights'
gradients, which it adds to what the blocks before gave. Who takes which changes no sum.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.external import external
from rnn_gpu.kernels.numba_cpu.few_inputs import are_few, few_input_gradients, few_weight_gradients
from rnn_gpu.kernels.numba_cpu.host import BLOCK_ROWS, DEPTH_OVER_ROWS, ROWS_FOR_NOTHING, TILE_ROWS
from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.product import (
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
from rnn_gpu.kernels.numba_cpu.steps import running

__all__ = ["PARTS", "gradients_of_rows", "part_of"]

PARTS = 1 << 10
"""In how many parts the work on a block is cut, of which a member takes some."""

ARITHMETIC = 200
"""What a step back costs a unit of a row besides its products, most of it memory, in multiply-adds."""

SLAB = 1008
"""Columns of A that are packed at a time at most: a multiple of a tile's rows and of the lanes of every vector."""


@jit
def _equal_part(member: int, members: int) -> tuple[int, int]:
    """A member's parts, from the first to before the last, where all take as many."""
    return PARTS * member // members, PARTS * (member + 1) // members


@jit
def part_of(
    active: Any, s0: int, s1: int, reverse: bool, cuts: Any, by_units: bool, rows: int, recurrent: int, inputs: int,
    member: int, members: int,
) -> tuple[int, int]:  # fmt: skip
    """The parts, from the first to before the last, that a member takes of the work on the `rows` rows of a block.

    All members are to end at about the same time, and run back through the steps s0..s1 besides, each its own rows.
    recurrent, inputs: multiply-adds of a product with the recurrent weights, and of all with those of x, for a unit.
    """
    if by_units:
        return _equal_part(member, members)
    step, row = float(recurrent + ARITHMETIC), float(recurrent + inputs)
    every = row * rows
    for other in range(members):
        every += step * _rows_of_steps(active, s0, s1, reverse, cuts, other)
    before, mine, free = 0.0, 0.0, 0.0
    for other in range(members):
        left = max(0.0, every / members - step * _rows_of_steps(active, s0, s1, reverse, cuts, other))
        before += left if other < member else 0.0
        mine += left if other == member else 0.0
        free += left
    if free == 0:
        return _equal_part(member, members)
    return int(PARTS * before / free), int(PARTS * (before + mine) / free)


@jit
def _rows_of_steps(active: Any, s0: int, s1: int, reverse: bool, cuts: Any, member: int) -> int:
    """How many rows a member runs through from the s0-th step to the s1-th, fewer than some counted as some."""
    total = 0
    if cuts[member] == cuts[member + 1]:
        return total
    for s in range(s0, s1):
        rows = running(active, s if reverse else active.size - 1 - s, cuts[member], cuts[member + 1])
        total += max(rows, ROWS_FOR_NOTHING) if rows > 0 else 0
    return total


@external("aiiaiiaiiaaaaiaiaaaawwnniiiiiiiiiiiii", backward=True)
def gradients_of_rows(
    DP: Any, dp0: int, dp_row: int, DR: Any, dr0: int, dr_row: int, O: Any, o0: int, o_row: int, x: Any, dx: Any,
    W_t: Any, dw: Any, dw_row: int, du: Any, du_row: int, block: Any, a_packed: Any, b_packed: Any, zeros: Any,
    input_sums: Any, recurrent_sums: Any, flat_rows: Any, stages: Any, n_stages: int, rows0: int, in_order: int,
    n_rows: int, more: int, merged: int, projected: int, with_dx: int, n_gates: int, I: int, H: int, H_p: int,
    part: int,
) -> None:  # fmt: skip
    """A member's part of the products of a block of valid steps, rows r from rows0 on, `n_rows` of them:

        dx[r] = dP[r] W,   d_w_ih += sum_r dP[r] x[r]^T,   d_w_hh += sum_r dR[r] operand[r]^T,   sums += dP, dR.

    DP, DR, O: those rows, from dp0, dr0 and o0 on, as `backward_step` has them; merged: DP is DR, and of one stage.
    x, dx [rows, I], whose row is flat_rows[r], or r if in_order; projected: x is W x_t, dx is dP, without d_w_ih;
    with_dx: whether dx is wanted.
    W_t: packed; dw [G*H, dw_row], du [S*H, du_row], the sums [G*H], [S*H]: written, or added to if more. Of few inputs
    W_t and dw are transposed: [I, G*H] and [I, dw_row].
    block [BLOCK_ROWS, I padded], a_packed [SLAB + TILE_ROWS, DEPTH_OVER_ROWS], b_packed [DEPTH_OVER_ROWS, panel]: work.
    zeros [I padded, a panel at least]. part: the first part and that before which to end, as one number.
    """
    width, zero, lanes = n_gates * H, integer(0), lanes_of(dx)
    begin, end = part // (2 * PARTS), part % (2 * PARTS)
    first, last = n_rows * begin // PARTS, n_rows * end // PARTS
    few = are_few(I, projected)
    if with_dx and projected:
        for k in range(first, last):
            to = rows0 + k if in_order else flat_rows[rows0 + k]
            copy(dx, to * I, DP, dp0 + k * dp_row, width)
    elif with_dx and few:
        few_input_gradients(dx, I, DP, dp0, dp_row, width, W_t, flat_rows, rows0, in_order, first, last)
    elif with_dx:
        _input_gradients(dx, I, DP, dp0, dp_row, width, W_t, flat_rows, rows0, in_order, block, zeros, first, last)
    columns = zero if projected or few else I
    chunks = max(1, (n_rows + DEPTH_OVER_ROWS - 1) // DEPTH_OVER_ROWS)
    for chunk in range(chunks):
        k0, k1 = n_rows * chunk // chunks, n_rows * (chunk + 1) // chunks
        x_rows, x_start = (zero - 1, (rows0 + k0) * I) if in_order else (rows0 + k0, zero)
        added, steps = integer(more or chunk > 0), k1 - k0
        first, last = _columns(zero, width, begin, end, lanes)
        slab = _slab(last - first)
        if few:
            few_weight_gradients(
                dw, dw_row, first, last, DP, dp0 + k0 * dp_row, dp_row, x, I, flat_rows, rows0 + k0, in_order, added,
                steps,
            )  # fmt: skip
        for m0 in range(first, last, slab):
            m1 = min(m0 + slab, last)
            if columns > 0 or merged:
                pack_operand(a_packed, DP, dp0 + k0 * dp_row + m0, dp_row, steps, m1 - m0)
            if columns > 0:
                product_over_rows(
                    dw, dw_row, m0, m1, a_packed, flat_rows, x, x_rows, x_start, I, added, steps, columns, b_packed,
                    zeros,
                )  # fmt: skip
            column_sums(input_sums, DP, dp0 + k0 * dp_row, dp_row, steps, m0, m1)
            if merged:
                product_over_rows(
                    du, du_row, m0, m1, a_packed, flat_rows, O, zero - 1, o0 + k0 * o_row, o_row, added, steps, H,
                    b_packed, zeros,
                )  # fmt: skip
        for stage in range(zero if merged else n_stages):
            first, last = _columns(stages[stage] * H, stages[stage + 1] * H, begin, end, lanes)
            slab = _slab(last - first)
            for m0 in range(first, last, slab):
                m1 = min(m0 + slab, last)
                pack_operand(a_packed, DR, dr0 + k0 * dr_row + m0, dr_row, steps, m1 - m0)
                column_sums(recurrent_sums, DR, dr0 + k0 * dr_row, dr_row, steps, m0, m1)
                product_over_rows(
                    du, du_row, m0, m1, a_packed, flat_rows, O, zero - 1, o0 + k0 * o_row + stage * H_p, o_row, added,
                    steps, H, b_packed, zeros,
                )  # fmt: skip


@jit
def _slab(columns: int) -> int:
    """How many columns to pack at a time: about as many each time."""
    times = max(1, (columns + SLAB - 1) // SLAB)
    whole = TILE_ROWS * 8
    return max(whole, padded((columns + times - 1) // times, whole))


@jit
def _columns(begin: int, end: int, first_part: int, last_part: int, lanes: int) -> tuple[int, int]:
    """Parts of the columns begin..end, in whole vectors but for the last."""
    vectors = padded(end - begin, lanes) // lanes
    first, last = vectors * first_part // PARTS, vectors * last_part // PARTS
    return min(end, begin + first * lanes), min(end, begin + last * lanes)


@jit
def _input_gradients(
    dx: Any, I: int, DP: Any, dp0: int, dp_row: int, depth: int, W_t: Any, flat_rows: Any, rows0: int, in_order: int,
    block: Any, zeros: Any, first: int, last: int
) -> None:  # fmt: skip
    """dx of a block's rows first..last; W_t packed [depth, I]; block [BLOCK_ROWS, I padded]."""
    columns = padded(I, panel_of(dx))
    zero = integer(0)
    for k0 in range(first, last, BLOCK_ROWS):
        rows, start = min(BLOCK_ROWS, last - k0), dp0 + k0 * dp_row
        if in_order and columns == I:
            product(dx, (rows0 + k0) * I, I, DP, start, dp_row, W_t, zero, zeros, zero, rows, I, depth)
        else:
            product(block, zero, columns, DP, start, dp_row, W_t, zero, zeros, zero, rows, I, depth)
            for row in range(rows):
                to = rows0 + k0 + row if in_order else flat_rows[rows0 + k0 + row]
                copy(dx, to * I, block, row * columns, I)
