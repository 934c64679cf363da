"""The *stepwise* strategy: one launch for each stage and step, for any H, any B and any device.

A block owns a tile of `width` rows and `units` hidden units for one launch; a thread one unit (x) of `rows` consecutive
rows (y), and the z-th share of each sum over k; the threads with z = 0 run the cell. A launch makes the products of one
stage, runs the segment behind them and, if that ends the step, the first segment of the next step: a cell with one
stage takes one launch a step.

Global memory, besides the sequence: `published` [2, row tile, D * H, width], what products sum over. Even steps publish
in one half, odd steps in the other.

Shared memory: the part of `published` that is being multiplied [CHUNK, width], then the shares of sums [z, product,
width, units]. U is read through L2. Registers hold the sums of one stage and the sequence's values of one step.

Barrier: the launch itself. Invariant: a launch that publishes for the next step still reads what this step published,
so the two lie in different halves; the half it writes was last read by the launch before.

Limits: those of any launch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numba import cuda

from rnn_gpu.kernels.numba_cuda import staged
from rnn_gpu.kernels.numba_cuda.cells import CompiledCell
from rnn_gpu.kernels.numba_cuda.jit import SCALAR, kernel
from rnn_gpu.kernels.numba_cuda.traits import TRAITS

__all__ = ["make"]


@lru_cache(maxsize=256)
def make(cell: CompiledCell, units: int, parts: int) -> Any:
    """The kernel `one_stage(a, s, step, stage)`; a, s: see `sequence`. Grid: (row tiles, unit tiles).

    units, parts: of the block; the kernel is compiled for them. stage -1: only the first segment of the step.
    Launches: (0, -1), then (step, stage) for each step and stage; where there is no stage, (step, -1) for each step.
    """
    f, segments, rows, n_stages = cell.functions, cell.segments, cell.rows, cell.segments.n_stages
    fetch, segment, begin, row_ends, no_sums = f.fetch, f.segment, f.begin, f.row_ends, f.no_sums
    load_own, store_own, load_fixed = f.load_own, f.store_own, f.load_fixed
    multiply = staged.make(cell, units, parts)
    D, W = sum(segments.depth), segments.area
    scalar = SCALAR[cell.dtype]

    def one_stage(a: Any, s: Any, step: int, stage: int) -> None:
        x, group, part = cuda.threadIdx.x, cuda.threadIdx.y, cuda.threadIdx.z
        groups, tile = cuda.blockDim.y, cuda.blockIdx.x
        width = groups * rows
        row, unit = tile * width + group * rows, cuda.blockIdx.y * units + x
        ends = row_ends(a, s, row, unit, part)
        if stage < 0 and step == 0:
            begin(a, s, ends, row, unit)

        t = s.steps - 1 - step if s.descending else step
        half = ((step & 1) * cuda.gridDim.x + tile) * D * s.H * width
        now = fetch(a, s, t, ends, row, unit)
        own, fixed = load_own(a, s, ends, row, unit, True), load_fixed(a, s, unit)
        first = stage < 0
        if stage >= 0:
            shared = cuda.shared.array(0, scalar)
            sums = multiply(
                stage, s.H, a.published, half, a.weights, cuda.blockIdx.y * W * s.H * units, shared, 0,
                x, group, part, groups,
            )  # fmt: skip
            own = segment(
                stage + 1, a, s, now, sums, own, fixed, t, ends, row, unit, a.published, half + group * rows, width
            )
            step += 1
            first = stage + 1 == n_stages and step < s.steps
            if first:
                t = t - 1 if s.descending else t + 1
                half = ((step & 1) * cuda.gridDim.x + tile) * D * s.H * width
                now = fetch(a, s, t, ends, row, unit)
        if first:
            own = segment(
                0, a, s, now, no_sums(), own, fixed, t, ends, row, unit, a.published, half + group * rows, width
            )
        store_own(a, s, own, ends, row, unit, True)

    return kernel(one_stage, threads=TRAITS.threads)
