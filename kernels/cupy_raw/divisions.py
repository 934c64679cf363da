"""The ways to divide a step among threads, blocks and teams of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw.device import Properties
from rnn_gpu.kernels.cupy_raw.limits import misfit, registers_available, registers_of
from rnn_gpu.kernels.cupy_raw.traits import SequenceKernel, Traits, itemsize

__all__ = ["divisions", "filled", "most_teams"]

LANES, SPLITS = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8)
UNITS, OCTETS = (1, 2, 4), (1, 2, 4)
ROWS, CHUNKS_FMA, CHUNKS_MMA = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8), (8, 16)
CLUSTERS = (2, 4, 8, 16)
GRID_THREADS, MAX_THREADS = (128, 256, 512), 512
MAX_ITEMS = 8
"""Items of a thread: each is unrolled."""

WEIGHT_REGISTERS, WEIGHT_VECTORS = {"fma": 192, "mma": 112}, {"fma": 64, "mma": 16}
"""The most of a thread that hold weights, and of vectors of an output: all that is done with them is unrolled, and the
compiler would load too many operands ahead."""

MANY_THREADS, VECTORS_OF_MANY = 256, 10
"""In larger blocks threads have fewer registers for all that goes on beside: the most vectors there."""

CLUSTER_SPARE = 12
"""Multiprocessors in which no cluster of more than two blocks fits: each lies within one of the device's processing
clusters, and those are not multiples of it. Of an H200, which runs 30, 15 and 7 clusters of 4, 8 and 16 at a time."""


def filled(kernel: SequenceKernel, properties: Properties) -> SequenceKernel:
    """With as many columns of U in registers as there is room for."""
    traits = kernel.traits
    most = max((kernel.vectors(inputs) for _, inputs in kernel.products), default=0)

    def with_registers(kept: int) -> SequenceKernel:
        return replace(kernel, traits=replace(traits, register_vectors=kept))

    each = sum(outputs for outputs, _ in kernel.products) * traits.units * 4
    if not each:
        return kernel
    most = min(most, WEIGHT_VECTORS[traits.product], WEIGHT_REGISTERS[traits.product] // each)
    if traits.product == "mma" and traits.threads > MANY_THREADS:
        most = min(most, VECTORS_OF_MANY)
    if misfit(everything := with_registers(most), properties) is None:
        return everything
    room = registers_available(traits.threads, properties) - registers_of(with_registers(0))
    return with_registers(min(most, max(room, 0) // each))


def divisions(
    cell: Cell, operand: str, kept: str, product: str, direction: str, strategy: str, B: int, H: int,
    properties: Properties,
) -> Iterator[Traits]:  # fmt: skip
    """The ways to divide a step among threads and blocks."""
    shares = [(1, lanes) for lanes in LANES] if product == "fma" else [(splits, 4) for splits in SPLITS]
    width = 16 // itemsize(operand)
    for splits, lanes in shares:
        for units in UNITS if product == "fma" else OCTETS:
            group_threads, group_units = (lanes, units) if product == "fma" else (32 * splits, 8 * units)
            hidden = _multiple(H, lanes * splits * width)
            for blocks, threads in _blocks(strategy, H, group_threads, group_units, properties):
                for rows, chunk in _tiles(product, B, most_teams(strategy, blocks, properties)):
                    traits = Traits(
                        strategy, product, operand, kept, hidden, blocks, threads, lanes, splits, units, rows, chunk, 0
                    )
                    if traits.per_lane * (rows // chunk) <= MAX_ITEMS:
                        yield traits


def _blocks(
    strategy: str, H: int, group_threads: int, group_units: int, properties: Properties
) -> Iterator[tuple[int, int]]:
    """Blocks of a team and their threads. A group of threads owns some hidden units; no block has none."""
    groups = -(-H // group_units)
    if strategy == "grid":
        for threads in GRID_THREADS:
            blocks = -(-groups // max(threads // group_threads, 1))
            if group_threads <= threads and 1 < blocks <= properties.multiprocessors:
                yield blocks, threads
        return
    for blocks in (1,) if strategy == "block" else (n for n in CLUSTERS if n <= properties.max_cluster):
        if most_teams(strategy, blocks, properties) < 1:
            continue
        threads = _multiple(-(-groups // blocks) * group_threads, max(32, group_threads))
        has_all_work = (blocks - 1) * (threads // group_threads * group_units) < H
        if threads <= MAX_THREADS and has_all_work:
            yield blocks, threads


def most_teams(strategy: str, blocks: int, properties: Properties) -> int:
    """Teams of so many blocks that run at a time, a block a multiprocessor."""
    spare = CLUSTER_SPARE if strategy == "cluster" and blocks > 2 else 0
    return (properties.multiprocessors - spare) // blocks


def _tiles(product: str, B: int, teams: int) -> Iterator[tuple[int, int]]:
    """Rows of a tile and of a chunk. There are no more rows in a tile than it takes for all tiles to run at once."""
    most = 1 << (-(-B // teams) - 1).bit_length()
    for chunk in CHUNKS_FMA if product == "fma" else CHUNKS_MMA:
        for rows in ROWS:
            if rows % chunk == 0 and rows <= max(most, chunk):
                yield rows, chunk


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of
