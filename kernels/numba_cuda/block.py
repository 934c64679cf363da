"""The *block* strategy: one launch a sequence, U in shared memory, and no block waits for another.

A block owns a tile of batch rows with all H hidden units (of a cell without products, some of them), for the whole
sequence. A thread owns one unit (x) of `rows` consecutive rows (y), and the z-th share of each sum over k; the threads
with z = 0 run the cell.

Shared memory, from its beginning; D and W are blocks of H terms, and of H terms for one product, over all stages:

    weights   [W * H, units]     every stage's U, [k, product, unit]: neighbouring threads read neighbouring banks
    operand   [2, D * H, width]  what products sum over, [k, row of the tile]; even steps in one half, odd in the other
    sums      [z, product, width, units]   the shares of a sum; none where one thread makes it all

Registers hold the sums of one stage and the sequence's values of this step and the next: those are fetched a step
ahead, so that they arrive while products run; and the states and biases. States come from memory before the first step
and go there after the last.

Barrier: `syncthreads`, one for each stage and step, and one more where sums are shared. Invariant: a thread writes a
half of `operand` only after the barrier of the step before, which every thread reaches only after its last read of that
half, two steps ago. Rows that have ended are left as they are; a tile ends with its longest row.

Limits: weights, operand and sums fit in the shared memory that a block of the device may have; at most as many threads
as `traits.Traits.threads_block`. `plan.block` checks both, and says why not.

The idea, weights that stay on the chip for all steps, is Diamos et al. (2016), "Persistent RNNs", in its smallest form.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numba import cuda

from rnn_gpu.kernels.numba_cuda.cells import CompiledCell
from rnn_gpu.kernels.numba_cuda.jit import INDEX, SCALAR, device, kernel
from rnn_gpu.kernels.numba_cuda.traits import TRAITS

__all__ = ["copy", "make"]


@device
def copy(source: Any, begin: int, target: Any, at: int, count: int, thread: int, threads: int) -> None:
    """target[at + i] = source[begin + i] for i below `count`, by all threads of a block together."""
    i, end, step = INDEX(thread), INDEX(count), INDEX(threads)
    begin, at = INDEX(begin), INDEX(at)
    last = end - INDEX(1)
    while i < end:  # eight on the way at once: one by one, each waits for memory
        i_1 = i + step
        i_2 = i_1 + step
        i_3 = i_2 + step
        i_4 = i_3 + step
        i_5 = i_4 + step
        i_6 = i_5 + step
        i_7 = i_6 + step
        v_0, v_1 = source[begin + i], source[begin + min(i_1, last)]
        v_2, v_3 = source[begin + min(i_2, last)], source[begin + min(i_3, last)]
        v_4, v_5 = source[begin + min(i_4, last)], source[begin + min(i_5, last)]
        v_6, v_7 = source[begin + min(i_6, last)], source[begin + min(i_7, last)]
        target[at + i] = v_0
        if i_1 < end:
            target[at + i_1] = v_1
        if i_2 < end:
            target[at + i_2] = v_2
        if i_3 < end:
            target[at + i_3] = v_3
        if i_4 < end:
            target[at + i_4] = v_4
        if i_5 < end:
            target[at + i_5] = v_5
        if i_6 < end:
            target[at + i_6] = v_6
        if i_7 < end:
            target[at + i_7] = v_7
        i = i_7 + step


@lru_cache(maxsize=256)
def make(cell: CompiledCell, hidden: int, parts: int) -> Any:
    """The kernel `block_sequence(a, s)`; a, s: see `sequence`. Grid: (row tiles, unit tiles).

    hidden, parts: H and the block's z threads, which the kernel is compiled for; 0 and 1 of a cell without products.
    """
    f, segments, rows, n_stages = cell.functions, cell.segments, cell.rows, cell.segments.n_stages
    fetch, segment, accumulate, begin = f.fetch, f.segment, f.accumulate, f.begin
    load_own, store_own, load_fixed = f.load_own, f.store_own, f.load_fixed
    row_ends, longest, store_sums, load_sums, no_sums = f.row_ends, f.longest, f.store_sums, f.load_sums, f.no_sums
    depth_of, operand_of, weights_of = f.depth_of, f.operand_of, f.weights_of
    D, W = sum(segments.depth), segments.area
    scalar = SCALAR[cell.dtype]

    def block_sequence(a: Any, s: Any) -> None:
        x, group, part = cuda.threadIdx.x, cuda.threadIdx.y, cuda.threadIdx.z
        units, groups = cuda.blockDim.x, cuda.blockDim.y
        width = groups * rows
        first = cuda.blockIdx.x * width
        row, unit = first + group * rows, cuda.blockIdx.y * units + x

        shared = cuda.shared.array(0, scalar)
        operand = W * hidden * hidden
        sums_at = operand + 2 * D * hidden * width + group * rows * hidden + x
        copy(a.weights, 0, shared, 0, operand, (part * groups + group) * units + x, units * groups * parts)

        ends = row_ends(a, s, row, unit, part)
        begin(a, s, ends, row, unit)
        own, fixed = load_own(a, s, ends, row, unit, False), load_fixed(a, s, unit)
        steps = longest(a, s, first, width)
        now = fetch(a, s, steps - 1 if s.descending else 0, ends, row, unit)
        step = 0
        while step < steps:
            t = steps - 1 - step if s.descending else step
            coming = fetch(a, s, t - 1 if s.descending else t + 1, ends, row, unit)
            half = operand + (step & 1) * D * hidden * width + group * rows
            own = segment(0, a, s, now, no_sums(), own, fixed, t, ends, row, unit, shared, half, width)
            for stage in range(n_stages):
                cuda.syncthreads()  # the stage's operand is complete, in all rows of the tile
                sums = accumulate(
                    stage, no_sums(), shared, half + operand_of(stage) * hidden * width,
                    shared, weights_of(stage) * hidden * hidden + x, part, parts, depth_of(stage) * hidden, width,
                    hidden,
                )  # fmt: skip
                if parts > 1:
                    store_sums(sums, shared, sums_at, part, width, hidden)
                    cuda.syncthreads()  # every share is stored; the next are, only after the next stage's barrier
                    sums = load_sums(sums, shared, sums_at, parts, width, hidden)
                own = segment(stage + 1, a, s, now, sums, own, fixed, t, ends, row, unit, shared, half, width)
            now = coming
            step += 1
        store_own(a, s, own, ends, row, unit, False)

    return kernel(block_sequence, threads=TRAITS.threads_block)
