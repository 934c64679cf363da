"""Matrix products over all steps at once: of the inputs before the loop over time, of the weights' gradients after it.

A block owns a square of the result, a thread OWN x OWN sums of it in registers. The square's operands pass through
shared memory a slice of `DEPTH` terms at a time, so that each number loaded is used by a row or column of threads.

Shared memory: a slice of a [DEPTH, TILE], then one of b [DEPTH, TILE]. Barriers: one after a slice is
stored, one after it is read.
Invariant: nobody stores a slice that somebody still reads. Limits: those of any launch.

A sum is made of chains of `CHAIN` terms, added up in order: the rounding error grows with the length of a chain and
the number of chains, not with the number of terms. Where the result is small and the sum long, several blocks make
parts of it, which `sum_rows` adds up, in the same order every time.

Tiles in shared memory and registers: Volkov & Demmel (2008), "Benchmarking GPUs to tune dense linear algebra".
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from rnn_gpu.kernels.numba_cuda.jit import SCALAR, device, kernel
from rnn_gpu.kernels.numba_cuda.memory import Queue
from rnn_gpu.kernels.numba_cuda.traits import TRAITS

__all__ = ["Matrix", "multiply", "sum_columns"]

TILE, DEPTH, CHAIN = TRAITS.product_tile, TRAITS.product_depth, TRAITS.product_chain
OWN = TRAITS.product_own
SIDE = TILE // OWN
"""Threads along each side of a block's square."""
SLICE = DEPTH * TILE

Array = Any


class Matrix(NamedTuple):
    """A matrix in a flat array: element (i, j) at `at` + i * `down` + j * `across`, in elements."""

    array: Array
    at: int
    down: int
    across: int


class _Sizes(NamedTuple):
    """M, N, K of a product; where its operands lie; K terms of each part; which axis the list of rows is for."""

    M: int
    N: int
    K: int
    a_at: int
    a_down: int
    a_across: int
    b_at: int
    b_down: int
    b_across: int
    out_at: int
    out_down: int
    part: int
    rows_of_m: int
    rows_of_k: int
    has_bias: int


@cache
def _kernel(real: np.dtype[Any]) -> Any:
    scalar, number = SCALAR[real], real.type

    def product(out: Array, a: Array, b: Array, bias: Array, rows: Array, s: Any) -> None:
        """out[m, n] = sum over k of a[m, k] b[k, n], + bias[n]; m or k through `rows` where s says so."""
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        m_first, n_first, part = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE, cuda.blockIdx.z
        shared = cuda.shared.array(0, scalar)
        sums = cuda.local.array((OWN, OWN), scalar)
        chain = cuda.local.array((OWN, OWN), scalar)
        for i in range(OWN):
            for j in range(OWN):
                sums[i, j] = number(0)
                chain[i, j] = number(0)

        k_first, k_end, terms = part * s.part, min(s.K, (part + 1) * s.part), 0
        while k_first < k_end:
            # Neighbouring threads read neighbouring elements, whichever axis that is.
            e = y * SIDE + x
            while e < DEPTH * TILE:
                k, m = (e % DEPTH, e // DEPTH) if s.a_across == 1 else (e // TILE, e % TILE)
                value = number(0)
                if k_first + k < k_end and m_first + m < s.M:
                    from_m = rows[m_first + m] if s.rows_of_m else m_first + m
                    from_k = rows[k_first + k] if s.rows_of_k else k_first + k
                    value = a[s.a_at + from_m * s.a_down + from_k * s.a_across]
                shared[k * TILE + m] = value
                k, n = (e % DEPTH, e // DEPTH) if s.b_down == 1 else (e // TILE, e % TILE)
                value = number(0)
                if k_first + k < k_end and n_first + n < s.N:
                    from_k = rows[k_first + k] if s.rows_of_k else k_first + k
                    value = b[s.b_at + from_k * s.b_down + (n_first + n) * s.b_across]
                shared[SLICE + k * TILE + n] = value
                e += SIDE * SIDE
            cuda.syncthreads()  # the slices are complete
            for k in range(DEPTH):
                for i in range(OWN):
                    for j in range(OWN):
                        of_a, of_b = shared[k * TILE + y + SIDE * i], shared[SLICE + k * TILE + x + SIDE * j]
                        chain[i, j] += of_a * of_b
            cuda.syncthreads()  # and read by all
            k_first += DEPTH
            terms += DEPTH
            if terms == CHAIN or k_first >= k_end:
                terms = 0
                for i in range(OWN):
                    for j in range(OWN):
                        sums[i, j] += chain[i, j]
                        chain[i, j] = number(0)

        for i in range(OWN):
            m = m_first + y + SIDE * i
            if m < s.M:
                to_m = rows[m] if s.rows_of_m else m
                for j in range(OWN):
                    n = n_first + x + SIDE * j
                    if n < s.N:
                        value = sums[i, j] + bias[n] if s.has_bias else sums[i, j]
                        out[part * s.M * s.N + s.out_at + to_m * s.out_down + n] = value

    return kernel(product, threads=SIDE * SIDE)


@cache
def _sum_kernel(real: np.dtype[Any]) -> Any:
    number = real.type

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
        total, lost = number(0), number(0)
        while row + 3 < end:  # four on the way at once: one by one, each waits for memory
            r_0 = rows[row] if has_rows else row
            r_1 = rows[row + 1] if has_rows else row + 1
            r_2 = rows[row + 2] if has_rows else row + 2
            r_3 = rows[row + 3] if has_rows else row + 3
            v_0, v_1 = a[at + r_0 * stride + column], a[at + r_1 * stride + column]
            v_2, v_3 = a[at + r_2 * stride + column], a[at + r_3 * stride + column]
            total, lost = added(total, lost, v_0)
            total, lost = added(total, lost, v_1)
            total, lost = added(total, lost, v_2)
            total, lost = added(total, lost, v_3)
            row += 4
        while row < end:
            total, lost = added(total, lost, a[at + (rows[row] if has_rows else row) * stride + column])
            row += 1
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
    each = -(-max(K, 1) // parts)
    each = -(-each // DEPTH) * DEPTH
    parts = -(-max(K, 1) // each)
    real = queue.real
    target = out if parts == 1 else Matrix(queue.empty(parts * M * N), 0, N, 1)
    sizes = _Sizes(
        M, N, K, a.at, a.down, a.across, b.at, b.down, b.across, target.at, target.down, each,
        int(rows is not None and over == "m"), int(rows is not None and over == "k"), int(bias is not None),
    )  # fmt: skip
    nothing = queue.nothing
    queue.launch(
        _kernel(real), (*tiles, parts), (SIDE, SIDE), 2 * SLICE * real.itemsize,
        target.array, a.array, b.array,
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
