"""A product whose operand lies in global memory, for the strategies that share U out over several blocks.

The block copies the operand to shared memory a chunk at a time and adds up what its threads own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numba import cuda

from rnn_gpu.kernels.numba_cuda.block import copy
from rnn_gpu.kernels.numba_cuda.cells import CompiledCell
from rnn_gpu.kernels.numba_cuda.jit import device_with_barriers
from rnn_gpu.kernels.numba_cuda.traits import TRAITS

__all__ = ["CHUNK", "make"]

CHUNK = TRAITS.chunk


@lru_cache(maxsize=256)
def make(cell: CompiledCell, units: int, parts: int) -> Any:
    """The device function `multiply`: the sums of one stage, complete in the threads with part 0.

    units, parts: of the block, which it is compiled for.

    published [D * H, width] from `o` on: this tile's operands. weights [D * H, products, units] from `w` on.
    shared, from `at` on: a chunk of the operand [CHUNK, width], then the shares of sums [z, product, width, units].
    """
    f, rows = cell.functions, cell.rows
    accumulate, store_sums, load_sums, no_sums = f.accumulate, f.store_sums, f.load_sums, f.no_sums
    depth_of, operand_of, weights_of, outputs_of = f.depth_of, f.operand_of, f.weights_of, f.outputs_of

    def multiply(
        stage: int, H: int, published: Any, o: int, weights: Any, w: int, shared: Any, at: int,
        unit: int, group: int, part: int, groups: int,
    ) -> Any:  # fmt: skip
        width = groups * rows
        thread, threads = (part * groups + group) * units + unit, units * groups * parts
        count, products = depth_of(stage) * H, outputs_of(stage)
        o += operand_of(stage) * H * width
        w += weights_of(stage) * H * units + unit
        sums_at = at + CHUNK * width + group * rows * units + unit
        sums = no_sums()
        k = 0
        while k < count:
            terms = min(CHUNK, count - k)
            copy(published, o + k * width, shared, at, terms * width, thread, threads)
            cuda.syncthreads()  # the chunk is complete
            sums = accumulate(
                stage,
                sums,
                shared,
                at + group * rows,
                weights,
                w + k * products * units,
                part,
                parts,
                terms,
                width,
                units,
            )
            cuda.syncthreads()  # and read by all, before the next takes its place
            k += CHUNK
        if parts > 1:
            store_sums(sums, shared, sums_at, part, width, units)
            cuda.syncthreads()
            sums = load_sums(sums, shared, sums_at, parts, width, units)
        return sums

    return device_with_barriers(multiply)
