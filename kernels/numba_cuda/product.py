"""Matrix products over all steps at once: of the inputs before the loop over time, of the weights' gradients after it.

A block owns a square of the result, a thread OWN x OWN sums of it in registers, in groups of four neighbours. The
square's operands pass through shared memory a slice at a time, so that each number loaded is used by a row or column of
threads; the next slice is on its way to registers while one is multiplied.

Shared memory: two slices of a [DEPTH, ROW], then two of b [DEPTH, ROW]; even slices lie in one, odd ones in the other;
then what each thread has added up before the chain that it is at [OWN, OWN, THREADS].
Barriers: one a slice, after it is stored. Invariant: who stores a slice has passed the barrier of the one before, which
nobody reaches before the last read of the slice that lay there. Limits: those of any launch.

A sum is made of chains of `CHAIN` terms, added up in order: the rounding error grows with the length of a chain
and the number of chains, not with the number of terms. Where the result is small and the sum long, several blocks make
parts of it, which `sum_rows` adds up, in the same order every time.

Tiles in shared memory and registers: Volkov & Demmel (2008), "Benchmarking GPUs to tune dense linear algebra".
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from rnn_gpu.kernels.numba_cuda.jit import INDEX, SCALAR, SIMULATED, device, kernel
from rnn_gpu.kernels.numba_cuda.memory import Queue
from rnn_gpu.kernels.numba_cuda.traits import TRAITS

__all__ = ["Matrix", "multiply", "sum_columns"]

OWN, CHAIN = TRAITS.product_own, TRAITS.product_chain
SIDE = OWN
"""Threads along each side of a block's square: all of them are as many as the square has rows, and load one at once."""
TILE = THREADS = OWN * OWN
VECTOR = 4
"""Neighbours that are loaded from shared memory at once."""
ROW = TILE + VECTOR
"""Numbers from a slice's k to the next: neighbouring k lie in different banks, and vectors where they can be loaded."""
ALIGNMENT = None if SIMULATED else 16
"""Bytes. The simulator knows none."""
AT_A_TIME = 16
"""Terms of a column's sum that a thread loads before it adds them up."""

Array = Any


class Matrix(NamedTuple):
    """A matrix in a flat array: element (i, j) at `at` + i * `down` + j * `across`, in elements; one of these is 1."""

    array: Array
    at: int
    down: int
    across: int


class _Sizes(NamedTuple):
    """M, N, K of a product; where its operands lie; K terms of each part.

    a_lines: whether a's lines of neighbouring elements lie along k, else along m; they are `a_step` apart. The same for
    b, with n.
    """

    M: int
    N: int
    K: int
    a_at: int
    a_step: int
    a_lines: int
    b_at: int
    b_step: int
    b_lines: int
    out_at: int
    out_down: int
    part: int
    has_bias: int


def depth_of(real: np.dtype[Any]) -> int:
    """Terms of a slice: what is on its way stays in registers."""
    return TRAITS.product_depth * 4 // real.itemsize


@cache
def _kernel(real: np.dtype[Any], over: str | None) -> Any:
    """over: the axis, "m" or "k", for which a list of rows stands; None where there is no list."""
    scalar, number, depth = SCALAR[real], real.type, depth_of(real)
    slice_, passes = depth * ROW, THREADS // depth
    a_listed, b_listed, out_listed = over is not None, over == "k", over == "m"

    @device
    def load(
        slice_of: Array, source: Array, at: int, step: int, line: int, stride: int, end: int, rows: Array, listed: bool
    ) -> None:
        """slice_of[i] = source[at + n * step] of line n = line + i * stride, or that in the list; 0 from `end` on."""
        place, jump = at + line * step, stride * step
        for i in range(depth):
            value = number(0)
            if line < end:
                value = source[INDEX(at + rows[INDEX(line)] * step if listed else place)]
            slice_of[i] = value
            line += stride
            place += jump

    def product(out: Array, a: Array, b: Array, bias: Array, rows: Array, s: Any) -> None:
        """out[m, n] = sum over k of a[m, k] b[k, n], + bias[n]."""
        thread = cuda.threadIdx.x & (THREADS - 1)  # by bits, here and below, which tell the compiler what is aligned
        x, y = thread & (SIDE - 1), (thread & -SIDE) // SIDE
        m_first, n_first, part = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE, cuda.blockIdx.z
        shared = cuda.shared.array(0, scalar, ALIGNMENT)
        chain = cuda.local.array((OWN, OWN), scalar)
        of_a, of_b = cuda.local.array(OWN, scalar), cuda.local.array(OWN, scalar)
        next_a, next_b = cuda.local.array(depth, scalar), cuda.local.array(depth, scalar)
        for i in range(OWN):
            for j in range(OWN):
                chain[i, j] = number(0)
        own_sums, parked, terms = 4 * slice_ + thread, False, 0

        # Where a thread's elements of a slice lie in it: neighbouring threads load neighbours.
        along, down = thread % depth, thread // depth
        a_to, a_stride = (along * ROW + down, passes) if s.a_lines else (thread, ROW)
        b_to, b_stride = (along * ROW + down, passes) if s.b_lines else (thread, ROW)
        k_begin = part * s.part
        k_end = min(s.K, k_begin + s.part)
        n_slices = (k_end - k_begin + depth - 1) // depth
        for coming in range(n_slices + 1):  # this slice on its way, the one before it multiplied
            if coming < n_slices:
                first = k_begin + coming * depth
                of_lane = first + along < k_end
                if s.a_lines:
                    lane, line, stride, end = first + along, m_first + down, passes, s.M if of_lane else 0
                else:
                    lane, line, stride, end = m_first + thread, first, 1, k_end if m_first + thread < s.M else 0
                load(next_a, a, s.a_at + lane, s.a_step, line, stride, end, rows, a_listed)
                if s.b_lines:
                    lane, line, stride, end = first + along, n_first + down, passes, s.N if of_lane else 0
                else:
                    lane, line, stride, end = n_first + thread, first, 1, k_end if n_first + thread < s.N else 0
                load(next_b, b, s.b_at + lane, s.b_step, line, stride, end, rows, b_listed)
            if coming > 0:
                at = ((coming - 1) & 1) * slice_
                a_from, b_from = at + y * VECTOR, at + 2 * slice_ + x * VECTOR
                for k in range(depth):
                    for i in range(OWN):
                        of_a[i] = shared[INDEX(a_from + k * ROW + i // VECTOR * (VECTOR * SIDE) + i % VECTOR)]
                    for j in range(OWN):
                        of_b[j] = shared[INDEX(b_from + k * ROW + j // VECTOR * (VECTOR * SIDE) + j % VECTOR)]
                    for i in range(OWN):
                        for j in range(OWN):
                            chain[i, j] += of_a[i] * of_b[j]
                terms += depth
                if terms == CHAIN and coming < n_slices:
                    for i in range(OWN):
                        for j in range(OWN):
                            place = INDEX(own_sums + (i * OWN + j) * THREADS)
                            shared[place] = shared[place] + chain[i, j] if parked else chain[i, j]
                            chain[i, j] = number(0)
                    terms, parked = 0, True
            if coming < n_slices:
                at = (coming & 1) * slice_
                for i in range(depth):
                    shared[INDEX(at + a_to + i * a_stride)] = next_a[i]
                    shared[INDEX(at + 2 * slice_ + b_to + i * b_stride)] = next_b[i]
                cuda.syncthreads()  # this slice is complete, and the one before it read by all

        if parked:
            for i in range(OWN):
                for j in range(OWN):
                    chain[i, j] = shared[INDEX(own_sums + (i * OWN + j) * THREADS)] + chain[i, j]
        for i in range(OWN):
            m = m_first + i // VECTOR * (VECTOR * SIDE) + y * VECTOR + i % VECTOR
            if m < s.M:
                to_m = rows[m] if out_listed else m
                for j in range(OWN):
                    n = n_first + j // VECTOR * (VECTOR * SIDE) + x * VECTOR + j % VECTOR
                    if n < s.N:
                        value = chain[i, j] + bias[n] if s.has_bias else chain[i, j]
                        out[INDEX(part * s.M * s.N + s.out_at + to_m * s.out_down + n)] = value

    return kernel(product, threads=THREADS)


@cache
def _sum_kernel(real: np.dtype[Any]) -> Any:
    scalar, number = SCALAR[real], real.type

    @device
    def added(total: Any, lost: Any, value: Any) -> Any:
        """The new total, and what it lost, which is added to the next term: Kahan (1965)."""
        term = value - lost
        sum_ = total + term
        lost = (sum_ - total) - term
        if lost - lost != number(0):  # an infinity or NaN, with nothing to be mended
            lost = number(0)
        return sum_, lost

    def sum_rows(
        out: Array, out_at: int, a: Array, at: int, stride: int, n_columns: int, n_rows: int, part: int, rows: Array,
        has_rows: int,
    ) -> None:  # fmt: skip
        """out[p, c] = the sum of column c over the p-th `part` rows; a thread a column, a row of blocks a part."""
        column = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if column >= n_columns:
            return
        row, end = cuda.blockIdx.y * part, min(n_rows, (cuda.blockIdx.y + 1) * part)
        last = end - 1
        total, lost = number(0), number(0)
        values = cuda.local.array(AT_A_TIME, scalar)
        while row < end:  # so many on the way at once: one by one, each waits for memory
            for i in range(AT_A_TIME):
                at_row = min(row + i, last)
                from_row = rows[INDEX(at_row)] if has_rows else at_row
                values[i] = a[INDEX(at + from_row * stride + column)]
            for i in range(AT_A_TIME):
                if row + i <= last:
                    total, lost = added(total, lost, values[i])
            row += AT_A_TIME
        out[out_at + cuda.blockIdx.y * n_columns + column] = total

    return kernel(sum_rows)


def multiply(
    queue: Queue, out: Matrix, a: Matrix, b: Matrix, shape: tuple[int, int, int], *,
    over: str, bias: Array | None = None, rows: Array | None = None,
) -> None:  # fmt: skip
    """out = a @ b (+ bias), for shape (M, K, N).

    over: the axis that steps and rows are on: "m" or, without a bias, "k".
    rows: a list of rows that stand for that axis; with "m" out's rows, too, and its others stay.
    """
    M, K, N = shape
    if M == 0 or N == 0:
        return
    tiles = (-(-M // TILE), -(-N // TILE))
    parts = 1
    if over == "k" and K > CHAIN:  # a sum that belongs to rows is made the same way however many rows there are
        parts = max(1, min(-(-K // CHAIN), TRAITS.product_blocks // (tiles[0] * tiles[1])))
    real = queue.real
    depth = depth_of(real)
    each = -(-max(K, 1) // parts)
    each = -(-each // depth) * depth
    parts = -(-max(K, 1) // each)
    target = out if parts == 1 else Matrix(queue.empty(parts * M * N), 0, N, 1)
    # Listed rows are lines: along k over the axis m, along m and n over k.
    a_lines, b_lines = a.across == 1 and (over == "m" or a.down != 1), b.across != 1
    assert rows is None or (a_lines, b_lines and over == "k") == (over == "m", False)
    sizes = _Sizes(
        M, N, K, a.at, a.down if a_lines else a.across, a_lines, b.at, b.across if b_lines else b.down, b_lines,
        target.at, target.down, each, bias is not None,
    )  # fmt: skip
    nothing = queue.nothing
    queue.launch(
        _kernel(real, over if rows is not None else None), (*tiles, parts), (THREADS,),
        (4 * depth * ROW + OWN * OWN * THREADS) * real.itemsize, target.array, a.array, b.array,
        nothing if bias is None else bias, queue.no_rows if rows is None else rows, sizes,
    )  # fmt: skip
    if parts > 1:
        assert out.down == N, "the parts of a sum are added up as one row"
        _sum(queue, out.array, out.at, target.array, 0, M * N, M * N, parts, parts, None)


def sum_columns(queue: Queue, out: Array, at: int, a: Matrix, n_rows: int, n_columns: int, rows: Array | None) -> None:
    """out[at + c] = the sum of column c of `a` over all rows, or those in the list."""
    if n_columns == 0:
        return
    blocks = -(-n_columns // TRAITS.wide)
    parts = max(1, min(-(-n_rows // TRAITS.column), TRAITS.product_blocks // blocks))
    each = -(-max(n_rows, 1) // parts)
    parts = -(-max(n_rows, 1) // each)
    if parts == 1:
        _sum(queue, out, at, a.array, a.at, a.down, n_columns, n_rows, n_rows, rows)
        return
    partial = queue.empty(parts * n_columns)
    _sum(queue, partial, 0, a.array, a.at, a.down, n_columns, n_rows, each, rows)
    _sum(queue, out, at, partial, 0, n_columns, n_columns, parts, parts, None)


def _sum(
    queue: Queue, out: Array, out_at: int, a: Array, at: int, stride: int, n_columns: int, n_rows: int, part: int,
    rows: Array | None,
) -> None:  # fmt: skip
    grid = (-(-n_columns // TRAITS.wide), max(1, -(-n_rows // max(part, 1))))
    queue.launch(
        _sum_kernel(queue.real), grid, (TRAITS.wide,), 0,
        out, out_at, a, at, stride, n_columns, n_rows, part,
        queue.no_rows if rows is None else rows, int(rows is not None),
    )  # fmt: skip
