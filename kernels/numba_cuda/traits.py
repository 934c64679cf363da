"""All tuning numbers of this backend: one set for devices, one for the simulator, where every thread is dear."""

from __future__ import annotations

from dataclasses import dataclass

from rnn_gpu.kernels.numba_cuda.jit import SIMULATED

__all__ = ["DEVICE", "SIMULATOR", "TRAITS", "Traits"]


@dataclass(frozen=True)
class Traits:
    """Sizes of tiles and blocks. None of them changes a bit of what belongs to rows, but `chain` and `parts`.

    threads: the most in a block of a sequence kernel, threads_block: in the block strategy; registers are allotted for
        as many.
    shared: bytes of shared memory of a block in the stepwise strategy, at most: a multiprocessor has several blocks.
    row_bytes: what one number takes for all the batch rows that a thread owns, at most: more rows, more registers;
        row_bytes_stepwise: in the stepwise strategy.
    chain: terms of a recurrent sum that one thread adds up before the sum is shared out; parts: the most shares, a
        power of two.
    chunk: terms of a staged operand in shared memory at a time, a multiple of `parts`.
    units: the fewest hidden units of a block in the grid strategy; units_stepwise: those of a block in the stepwise
        strategy where it makes whole sums, and fewer, but no less than `units_shared`, where sums are shared.
    product_own: sums along the side of the square that a thread of a matrix product owns; a block's square has as many
        of those along each side. product_depth: terms of float32 that are taken at a time, half as many of float64;
        product_chain: terms of one chain of additions, a multiple of that.
    product_blocks: blocks that a product over time is cut into where its result is small.
    column: terms of a column's sum that one thread adds up, unless that makes more than `product_blocks` blocks.
    wide: threads of a block in kernels that only copy or add up columns; wide_blocks: the most blocks of such.
    """

    threads: int
    threads_block: int
    shared: int
    row_bytes: int
    row_bytes_stepwise: int
    chain: int
    parts: int
    chunk: int
    units: int
    units_stepwise: int
    units_shared: int
    product_own: int
    product_depth: int
    product_chain: int
    product_blocks: int
    column: int
    wide: int
    wide_blocks: int

    def __post_init__(self) -> None:
        assert self.parts & (self.parts - 1) == 0, "parts is a power of two"
        assert self.chunk % self.parts == 0, "a chunk holds as many terms of each part"
        assert {self.row_bytes, self.row_bytes_stepwise} <= {8, 16, 32}, (
            "a thread owns at least one row in float64, and a power of two"
        )
        assert self.product_own % 4 == 0, "a thread's sums are groups of four"
        assert self.product_own**2 % self.product_depth == 0, "each thread loads as many terms of a slice"
        assert self.product_chain % self.product_depth == 0, "a chain ends with a slice"


DEVICE = Traits(
    threads=256,
    threads_block=512,
    shared=48 * 1024,
    row_bytes=8,
    row_bytes_stepwise=16,
    chain=8,
    parts=8,
    chunk=256,
    units=4,
    units_stepwise=64,
    units_shared=16,
    product_own=8,
    product_depth=16,
    product_chain=128,
    product_blocks=660,
    column=64,
    wide=256,
    wide_blocks=1056,
)

SIMULATOR = Traits(
    threads=128,
    threads_block=128,
    shared=48 * 1024,
    row_bytes=16,
    row_bytes_stepwise=16,
    chain=16,
    parts=2,
    chunk=16,
    units=4,
    units_stepwise=8,
    units_shared=4,
    product_own=4,
    product_depth=4,
    product_chain=16,
    product_blocks=2,
    column=16,
    wide=2,
    wide_blocks=1,
)

TRAITS = SIMULATOR if SIMULATED else DEVICE
