"""What a kernel needs of a multiprocessor, and whether it fits."""

from __future__ import annotations

from rnn_gpu.kernels.cupy_raw.device import Properties
from rnn_gpu.kernels.cupy_raw.traits import SequenceKernel

__all__ = ["misfit", "registers_available", "registers_of"]

RESERVED_REGISTERS, ITEM_REGISTERS = {"fma": 44, "mma": 26}, {"fma": 16, "mma": 14}
"""Of a thread, and of each of its items: addresses, and what a step has in flight beyond what is counted. Found by
compiling: less, and kernels spill."""

ARCHITECTURE_REGISTERS = {10: 24}
"""What the same kernel takes more of, by major compute capability, than on the others."""


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


def misfit(kernel: SequenceKernel, properties: Properties) -> str | None:
    """Why a block of the kernel does not fit a multiprocessor, or None."""
    if kernel.shared_bytes > properties.shared_block:
        return f"a block needs {kernel.shared_bytes} bytes of shared memory, and can have {properties.shared_block}"
    needed, there_are = registers_of(kernel), registers_available(kernel.traits.threads, properties)
    if needed > there_are:
        return f"a thread needs {needed} registers, and can have {there_are}"
    return None
