"""How long a step takes: the estimates that the plan chooses by.

A step of a sequence kernel takes a sum of terms: each a count, which follows from the kernel's numbers, times the
clocks of a multiprocessor that one of them takes. Those were fitted to measurements of some thousand kernels on an
H200, by tests/gpu/calibrate.py; other devices are taken to need as many clocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw.device import Properties
from rnn_gpu.kernels.cupy_raw.traits import SequenceKernel, itemsize, products_of

__all__ = ["CLOCKS", "Cost", "flops_of", "memory_bytes", "sequence_cost", "stepwise_cost", "terms"]

CLOCKS: dict[str, dict[str, float]] = {
    "fma": {
        "block": 322, "cluster": 432, "grid": 2090, "items": 257, "items_warps": 64.9, "numbers": 29.3,
        "numbers_warps": 4.29, "fma": 1.06, "fma_warps": 0.263, "operands": 2.51, "weights": 3.17,
        "shuffles": 12.3, "shuffles_warps": 4.7, "chunks": 170, "copied": 72.7, "stored": 48.4,
    },
    "mma": {
        "block": 159, "cluster": 436, "grid": 2270, "items": 231, "numbers": 7.37, "numbers_warps": 18.7,
        "mma": 5.26, "vectors": 59, "operands": 1.87, "weights": 5.02, "partials": 514, "partials_warps": 6.68,
        "copied": 21.3, "copied_by_all": 222, "stored": 64.6,
    },
}  # fmt: skip
"""By product, of each of the `terms`."""

SCHEDULERS = 4
"""Of a multiprocessor: warps beyond so many take turns."""

FMA_A_CLOCK = {"float64": {8: 32, 9: 64, 10: 64}, "float32": {8: 64, 9: 128, 10: 128}}
"""Multiply-adds a clock and multiprocessor, by working type and major compute capability."""

FITTED_FMA_A_CLOCK = 128
"""Of what the terms were fitted to."""

MMA_A_CLOCK = 1024
"""The same on tensor cores, of 16-bit numbers; TensorFloat-32 runs at half of it."""

PRODUCT_EFFICIENCY = 0.45
"""What cuBLAS reaches of these rates in the products of one step."""

PRODUCT_BYTES_A_SECOND = 1.2e12
"""At which cuBLAS reads the weights in such a product."""

LAUNCH_SECONDS, PRODUCT_SECONDS = 4.0e-6, 8.0e-6
"""The least time of a kernel in a CUDA graph, and of a matrix product of one step."""


@dataclass(frozen=True)
class Cost:
    """Of one step of all rows: multiply-adds count as two flops; bytes to and from memory; exchanges between blocks."""

    flops: int
    bytes: int
    exchanges: int
    seconds: float


def flops_of(cell: Cell, direction: str, B: int, H: int) -> int:
    """Of the recurrent products of a step."""
    return 2 * B * H * H * sum(outputs * inputs for outputs, inputs in products_of(cell, direction))


def memory_bytes(cell: Cell, direction: str, dtype: str, kept: str, B: int, H: int, *, save: bool = True) -> int:
    """What a step reads and writes of the sequence's arrays; the weights stay on the chip."""
    real = max(4, itemsize(dtype))
    states, gates = len(cell.states), len(cell.input_gates)
    stored = (states + len(cell.saved)) * real if save else 0
    if direction == "forward":
        return B * H * (gates * real + itemsize(dtype) + stored)
    gradients = gates + (0 if cell.program.same_gradients else len(cell.recurrent_gates)) + len(cell.stages)
    return B * H * (stored + itemsize(dtype) + gradients * itemsize(kept))


def terms(kernel: SequenceKernel, B: int) -> dict[str, float]:
    """The counts of one step of one tile.

    block, cluster, grid: exchanges, by strategy, with all that a step always does; chunks, copied, copied_by_all: what
    blocks of a grid copy from global memory: how often, KiB a block, MiB of all blocks of the team; stored: KiB that a
    block of a cluster stores in others.
    items, numbers: of a thread, and what is read and written of them. fma, mma: multiply-adds of a thread, of a warp;
    vectors: of columns, one after the other, in a warp's chain of mma's. operands, weights: vectors that warps load
    from shared memory. shuffles: numbers that lanes give to others; partials: sums that warps give to others.
    *_warps: the same, times the warps that a scheduler has. A term without clocks was found to cost nothing by itself.
    """
    cell, traits = kernel.cell, kernel.traits
    chunks = -(-min(B, traits.rows) // traits.chunk)
    warps = traits.threads // 32
    turns = max(1.0, warps / SCHEDULERS)
    items = traits.per_lane * (traits.rows // traits.chunk)
    numbers = len(cell.input_gates) + len(cell.saved) + len(cell.states) + 1
    if kernel.direction == "backward":
        numbers += len(cell.stages) + (0 if cell.program.same_gradients else len(cell.recurrent_gates))
    found: dict[str, float] = {traits.strategy: max(len(kernel.products), 1)}

    def add(name: str, count: float, *, warps: bool = False) -> None:
        found[name] = found.get(name, 0.0) + count
        if warps:
            found[f"{name}_warps"] = found.get(f"{name}_warps", 0.0) + count * turns

    add("items", items, warps=True)
    add("numbers", items * numbers, warps=True)
    for outputs, inputs in kernel.products:
        vectors = kernel.vectors(inputs)
        in_shared = max(vectors - traits.register_vectors, 0)
        copied = traits.chunk * traits.hidden * inputs * itemsize(traits.operand)
        add("weights", chunks * in_shared * outputs * traits.units * warps)
        if traits.product == "mma":
            groups = traits.chunk // 8
            add("mma", 2 * chunks * vectors * groups * -(-outputs * traits.units // 2))
            add("vectors", chunks * vectors)
            add("operands", chunks * vectors * groups * warps)
            if traits.splits > 1:
                add("partials", chunks)
                add("partials_warps", chunks * turns * 2 * traits.units * groups * outputs)
        else:
            add("fma", chunks * traits.chunk * outputs * traits.units * vectors * traits.width, warps=True)
            add("operands", chunks * traits.chunk * vectors * warps)
            add("shuffles", chunks * outputs * _shuffles(traits.chunk * traits.units, traits.lanes), warps=True)
        if traits.strategy == "grid":
            add("chunks", chunks)
            add("copied", chunks * copied / 2**10)
            add("copied_by_all", traits.blocks * chunks * copied / 2**20)
        elif traits.strategy == "cluster":
            stored = traits.rows * traits.block_units * inputs * (traits.blocks - 1) * itemsize(traits.operand)
            add("stored", stored / 2**10)
    return found


def _shuffles(items: int, lanes: int) -> int:
    """Numbers that a lane gives to others until each has the sums of its items over all lanes."""
    count = 0
    while lanes > 1:
        items = max(items // 2, 1)
        count += items
        lanes //= 2
    return count


def sequence_cost(kernel: SequenceKernel, B: int, H: int, teams: int, properties: Properties, *, save: bool) -> Cost:
    """Of a step of all B rows, on so many teams at a time."""
    cell, traits = kernel.cell, kernel.traits
    clocks_of = CLOCKS[traits.product]
    slower = FITTED_FMA_A_CLOCK / _fma_rate(kernel.real, properties)
    clocks = 0.0
    for name, count in terms(kernel, B).items():
        by_all = teams if name == "copied_by_all" else 1
        clocks += clocks_of.get(name, 0.0) * count * by_all * (slower if name == "fma_warps" else 1.0)
    tiles = -(-B // traits.rows)
    rounds = -(-tiles // teams)
    moved = memory_bytes(cell, kernel.direction, kernel.dtype, traits.kept, B, H, save=save)
    seconds = max(rounds * clocks / properties.clock, moved / properties.bandwidth)
    return Cost(flops_of(cell, kernel.direction, B, H), moved, rounds * len(kernel.products), seconds)


def stepwise_cost(
    cell: Cell,
    direction: str,
    dtype: str,
    kept: str,
    B: int,
    H: int,
    properties: Properties,
    *,
    save: bool,
    tf32: bool,
) -> Cost:
    """Of a step of all B rows: the weights are read anew for each."""
    products = products_of(cell, direction)
    flops = flops_of(cell, direction, B, H)
    weights = len(cell.recurrent_gates) * H * H * itemsize(kept)
    exchanged = sum(outputs + inputs for outputs, inputs in products) * B * H * 2 * max(4, itemsize(kept))
    moved = memory_bytes(cell, direction, dtype, kept, B, H, save=save)
    rate = _fma_rate("float64" if dtype == "float64" else "float32", properties)
    if itemsize(kept) == 2 or tf32:
        rate = MMA_A_CLOCK * (1 if itemsize(kept) == 2 else 0.5)
    arithmetic = flops / 2 / (PRODUCT_EFFICIENCY * rate * properties.multiprocessors * properties.clock)
    product = max(len(products) * PRODUCT_SECONDS, arithmetic, weights / PRODUCT_BYTES_A_SECOND)
    elementwise = max((len(products) or 1) * LAUNCH_SECONDS, (moved + exchanged) / properties.bandwidth)
    return Cost(flops, moved + exchanged + weights, 0, product + elementwise)


def _fma_rate(real: str, properties: Properties) -> float:
    return FMA_A_CLOCK[real].get(properties.capability[0], FMA_A_CLOCK[real][9])
