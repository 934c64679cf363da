"""The *grid* strategy: one cooperative launch a sequence, U shared out over the blocks of the whole device.

A block owns a tile of `width` rows and `units` hidden units, for the whole sequence; a thread one unit (x) of `rows`
consecutive rows (y), and the z-th share of each sum over k; the threads with z = 0 run the cell.

Global memory, besides the sequence: `published` [2, row tile, D * H, width], what products sum over. Even steps publish
in one half, odd steps in the other.

Shared memory, from its beginning:

    weights   [W * H, units]          U's columns of the block's units, where they fit: else they are read through L2
    operand   [CHUNK, width]          the part of `published` that is being multiplied
    sums      [z, product, width, units]   the shares of a sum

Registers hold the sums of one stage, the sequence's values of this step and the next, the states and the biases. The
barrier is a call, which saves those that it may use: a few bytes a thread go through local memory around it.

Barrier: of the whole grid, one for each stage and step; it also makes what was published before it visible to all.
Invariant: a block writes a half of `published` only after the barrier of the step before, which every block reaches
only after its last read of that half, two steps ago.

Limits: all blocks must be on the device at once, or the barrier would wait for ever: at most one for each
multiprocessor, which `plan.grid` checks, and again before the launch by what the compiled kernel needs.

Grid barriers between the steps of a recurrent net: Diamos et al. (2016), "Persistent RNNs"; cooperative groups: CUDA
C++ Programming Guide, section 8.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numba import cuda

from rnn_gpu.kernels.numba_cuda import staged
from rnn_gpu.kernels.numba_cuda.block import copy
from rnn_gpu.kernels.numba_cuda.cells import CompiledCell
from rnn_gpu.kernels.numba_cuda.jit import SCALAR, kernel
from rnn_gpu.kernels.numba_cuda.traits import TRAITS

__all__ = ["make"]


@lru_cache(maxsize=256)
def make(cell: CompiledCell, resident: bool, units: int, parts: int) -> Any:
    """The kernel `grid_sequence(a, s)`; a, s: see `sequence`. Grid: (row tiles, unit tiles).

    resident: U's columns of the block lie in shared memory. units, parts: of the block, compiled for.
    """
    f, segments, rows, n_stages = cell.functions, cell.segments, cell.rows, cell.segments.n_stages
    fetch, segment, begin, row_ends, no_sums = f.fetch, f.segment, f.begin, f.row_ends, f.no_sums
    load_own, store_own, load_fixed = f.load_own, f.store_own, f.load_fixed
    multiply = staged.make(cell, units, parts)
    D, W = sum(segments.depth), segments.area
    scalar = SCALAR[cell.dtype]

    def grid_sequence(a: Any, s: Any) -> None:
        x, group, part = cuda.threadIdx.x, cuda.threadIdx.y, cuda.threadIdx.z
        groups, tile = cuda.blockDim.y, cuda.blockIdx.x
        width = groups * rows
        row, unit = tile * width + group * rows, cuda.blockIdx.y * units + x
        grid = cuda.cg.this_grid()

        shared = cuda.shared.array(0, scalar)
        weights_size = W * s.H * units
        slice_at = cuda.blockIdx.y * weights_size
        free = 0
        if resident:
            copy(
                a.weights,
                slice_at,
                shared,
                0,
                weights_size,
                (part * groups + group) * units + x,
                units * groups * parts,
            )
            free = weights_size  # the first barrier of the grid is one of the block, too

        ends = row_ends(a, s, row, unit, part)
        begin(a, s, ends, row, unit)
        own, fixed = load_own(a, s, ends, row, unit, False), load_fixed(a, s, unit)
        now = fetch(a, s, s.steps - 1 if s.descending else 0, ends, row, unit)
        step = 0
        while step < s.steps:
            t = s.steps - 1 - step if s.descending else step
            coming = fetch(a, s, t - 1 if s.descending else t + 1, ends, row, unit)
            half = ((step & 1) * cuda.gridDim.x + tile) * D * s.H * width
            own = segment(
                0, a, s, now, no_sums(), own, fixed, t, ends, row, unit, a.published, half + group * rows, width
            )
            for stage in range(n_stages):
                grid.sync()  # the stage's operand is complete, in all units of all rows
                if resident:
                    sums = multiply(stage, s.H, a.published, half, shared, 0, shared, free, x, group, part, groups)
                else:
                    sums = multiply(
                        stage, s.H, a.published, half, a.weights, slice_at, shared, free,
                        x, group, part, groups,
                    )  # fmt: skip
                own = segment(
                    stage + 1, a, s, now, sums, own, fixed, t, ends, row, unit, a.published, half + group * rows, width
                )
            now = coming
            step += 1
        store_own(a, s, own, ends, row, unit, False)

    return kernel(grid_sequence, threads=TRAITS.threads, cooperative=True)
