"""What a kernel needs of a device, and how fast a step could be: the model that the plan chooses by.

Every rate and latency here is an estimate from public sources, not a measurement; docs/design/gpu-kernels.md lists what
follows from them, for measurements to be held against.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw.device import Properties
from rnn_gpu.kernels.cupy_raw.traits import SequenceKernel, itemsize, products_of

__all__ = [
    "Cost",
    "flops_of",
    "memory_bytes",
    "misfit",
    "registers_available",
    "registers_of",
    "sequence_cost",
    "stepwise_cost",
]

FMA_A_CLOCK = {"float64": {8: 32, 9: 64, 10: 64}, "float32": {8: 64, 9: 128, 10: 128}}
"""Multiply-adds a clock and multiprocessor, by working type and major compute capability."""

MMA_A_CLOCK = 1024
"""The same on tensor cores, of 16-bit numbers through mma.sync; TensorFloat-32 runs at half of it."""

SHARED_BYTES_A_CLOCK = 128
"""From shared memory into the registers of a multiprocessor."""

L2_BYTES_A_CLOCK = 64
"""From the L2 cache into a multiprocessor."""

EXCHANGE_SECONDS = {"block": 0.04e-6, "cluster": 0.5e-6, "grid": 1.0e-6}
"""From the last store of what a stage publishes to the first load of it, barrier included."""

ELEMENTWISE_CLOCKS = 150
"""The chain of elementwise operations of a step."""

SHUFFLE_CLOCKS, PARTIAL_CLOCKS, VECTOR_CLOCKS = 25, 60, 20
"""Latencies: one level of a sum over lanes; a sum over warps; the chain that one vector adds to a product."""

RESERVED_REGISTERS, ITEM_REGISTERS = {"fma": 44, "mma": 20}, {"fma": 16, "mma": 14}
"""Of a thread, and of each of its items: addresses, and what a step has in flight beyond what is counted. Found by
compiling: less, and kernels spill."""

ARCHITECTURE_REGISTERS = {10: 24}
"""What the same kernel takes more of, by major compute capability, than on the others."""

LAUNCH_SECONDS, PRODUCT_SECONDS = 2.0e-6, 4.0e-6
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


def memory_bytes(cell: Cell, direction: str, dtype: str, operand: str, B: int, H: int, *, save: bool = True) -> int:
    """What a step reads and writes of the sequence's arrays; the weights stay on the chip."""
    real = max(4, itemsize(dtype))
    states, gates = len(cell.states), len(cell.input_gates)
    kept = (states + len(cell.saved)) * real if save else 0
    if direction == "forward":
        return B * H * (gates * real + itemsize(dtype) + kept)
    gradients = gates + (0 if cell.program.same_gradients else len(cell.recurrent_gates)) + len(cell.stages)
    return B * H * (kept + itemsize(dtype) + gradients * itemsize(operand))


def registers_available(threads: int, properties: Properties) -> int:
    """32-bit registers of a thread where one block has a multiprocessor, less what the architecture takes."""
    registers = min(255, properties.registers_multiprocessor // threads // 8 * 8)
    return registers - ARCHITECTURE_REGISTERS.get(properties.capability[0], 0)


def registers_of(kernel: SequenceKernel) -> int:
    """An upper estimate of the 32-bit registers of a thread."""
    cell, traits = kernel.cell, kernel.traits
    items = traits.per_lane * (traits.rows // traits.chunk)
    n_input, n_recurrent, n_vector = len(cell.input_gates), len(cell.recurrent_gates), len(cell.vectors)
    n_state, n_saved = len(cell.states), len(cell.saved)
    if kernel.direction == "forward":
        item = 2 * n_input + n_state + n_vector
        shared = traits.per_lane * (n_input + n_recurrent)
        passing = n_saved + n_recurrent
    else:
        item = 2 * n_saved + 6 * n_state + 3 * n_vector
        shared = 0
        passing = n_input + n_recurrent
    outputs = max((outputs for outputs, _ in kernel.products), default=0)
    if traits.product == "mma":
        sums = 4 * -(-outputs * traits.units // 2) * (traits.chunk // 8) + 8 * (traits.chunk // 8) + 8
    else:
        sums = outputs * traits.units * traits.chunk + 4 * min(traits.chunk, 4)
    words = 2 if kernel.real == "float64" else 1
    from_shared = 0
    if any(kernel.vectors(inputs) > traits.register_vectors for _, inputs in kernel.products):
        turns = 1 if traits.product == "mma" else 2  # of the loop, at a time
        from_shared = 4 * outputs * traits.units * turns
    counted = words * (items * item + shared + passing + sums)
    reserved = RESERVED_REGISTERS[traits.product] + ITEM_REGISTERS[traits.product] * items
    return reserved + kernel.weight_registers + from_shared + counted


def sequence_cost(kernel: SequenceKernel, B: int, H: int, teams: int, properties: Properties, *, save: bool) -> Cost:
    """Of a step of all B rows, on so many teams."""
    cell, traits = kernel.cell, kernel.traits
    tiles = -(-B // traits.rows)
    rounds = -(-tiles // teams)
    clocks = float(ELEMENTWISE_CLOCKS)
    chunks = -(-min(B, traits.rows) // traits.chunk)
    warps = traits.threads // 32
    for outputs, inputs in kernel.products:
        vectors = kernel.vectors(inputs)
        in_shared = max(vectors - traits.register_vectors, 0)
        columns = traits.hidden * inputs
        if traits.product == "mma":
            rows16 = -(-outputs * traits.units // 2)
            rate = MMA_A_CLOCK * (1 if itemsize(traits.operand) == 2 else 0.5)
            arithmetic = chunks * warps // traits.splits * rows16 * 16 * columns * traits.chunk / rate
            vector_loads = chunks * warps * vectors * traits.chunk // 8
            tail = PARTIAL_CLOCKS * chunks if traits.splits > 1 else 0
            chain = chunks * vectors * 2 * VECTOR_CLOCKS
        else:
            rate = FMA_A_CLOCK[kernel.real].get(properties.capability[0], FMA_A_CLOCK[kernel.real][9])
            arithmetic = chunks * traits.chunk * outputs * traits.block_units * columns / rate
            vector_loads = chunks * traits.chunk * warps * vectors
            tail = SHUFFLE_CLOCKS * (traits.lanes.bit_length() - 1) * chunks
            chain = chunks * vectors * VECTOR_CLOCKS
        weights = chunks * in_shared * outputs * traits.units * traits.threads * traits.width * itemsize(kernel.dtype)
        loads = vector_loads * 32 * 16 / 2 + weights  # half of a warp's lanes, or more, load what others do
        clocks += max(arithmetic, loads / SHARED_BYTES_A_CLOCK, chain) + tail
        if traits.strategy == "grid":
            clocks += chunks * traits.chunk * columns * itemsize(traits.operand) / L2_BYTES_A_CLOCK
        elif traits.strategy == "cluster":
            clocks += min(B, traits.rows) * traits.block_units * inputs * traits.blocks / 32
    moved = memory_bytes(cell, kernel.direction, kernel.dtype, traits.operand, B, H, save=save)
    exchanges = len(kernel.products)
    seconds = rounds * (clocks / properties.clock + exchanges * EXCHANGE_SECONDS[traits.strategy])
    flops = flops_of(cell, kernel.direction, B, H)
    return Cost(flops, moved, rounds * exchanges, max(seconds, moved / properties.bandwidth))


def stepwise_cost(
    cell: Cell,
    direction: str,
    dtype: str,
    operand: str,
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
    weights = len(cell.recurrent_gates) * H * H * itemsize(operand)
    exchanged = sum(outputs + inputs for outputs, inputs in products) * B * H * 2 * max(4, itemsize(operand))
    moved = memory_bytes(cell, direction, dtype, operand, B, H, save=save)
    real = "float64" if dtype == "float64" else "float32"
    rate: float = FMA_A_CLOCK[real].get(properties.capability[0], FMA_A_CLOCK[real][9])
    if itemsize(operand) == 2 or tf32:
        rate = MMA_A_CLOCK * (1 if itemsize(operand) == 2 else 0.5)
    arithmetic = flops / 2 / (rate * properties.multiprocessors * properties.clock)
    l2 = L2_BYTES_A_CLOCK * properties.multiprocessors * properties.clock
    where = properties.bandwidth if weights > properties.l2 else l2
    product = max(len(products) * PRODUCT_SECONDS, arithmetic, (weights + exchanged) / where)
    elementwise = max((len(products) or 1) * LAUNCH_SECONDS, (moved + exchanged) / properties.bandwidth)
    return Cost(flops, moved + exchanged + weights, 0, product + elementwise)


def misfit(kernel: SequenceKernel, properties: Properties) -> str | None:
    """Why a block of the kernel does not fit a multiprocessor, or None."""
    if kernel.shared_bytes > properties.shared_block:
        return f"a block needs {kernel.shared_bytes} bytes of shared memory, and can have {properties.shared_block}"
    needed, there_are = registers_of(kernel), registers_available(kernel.traits.threads, properties)
    if needed > there_are:
        return f"a thread needs {needed} registers, and can have {there_are}"
    return None
