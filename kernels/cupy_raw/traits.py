"""The tuning numbers of one kernel, and what follows from them: `Traits` in the kernels' source is written from these.

What the kernels compute from their traits by themselves is computed here too, for the plan, and each compilation
compares the two.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass, fields, replace
from functools import cached_property, lru_cache

from rnn_gpu.compiler.cell import Cell

__all__ = ["CPP_TYPES", "DIRECTIONS", "SequenceKernel", "StepKernel", "Traits", "itemsize", "products_of"]

CPP_TYPES = {"float64": "double", "float32": "float", "float16": "Half", "bfloat16": "BFloat16"}
"""What the kernels call each dtype."""

DIRECTIONS = ("forward", "backward")

VECTOR_BYTES = 16
"""Of an operand, loaded at once."""

COUNTER_BYTES = 16
"""Shared memory in which a block of a cluster counts what has come."""


@dataclass(frozen=True)
class Traits:
    """Tuning numbers of a sequence kernel.

    strategy: "block", "cluster" or "grid"; product: "fma" or, on tensor cores, "mma"; operand: the dtype that it reads;
    kept: that in which what the products over all steps read is kept.
    hidden: the largest H, to which columns are padded; blocks: of a team; threads: of a block.
    fma: `lanes` threads share the columns of `units` hidden units; splits is 1.
    mma: `splits` warps share those of `units` octets of hidden units; lanes is 4, those of a fragment.
    rows: of a tile; chunk: rows whose sums are in registers at a time; register_vectors: vectors of columns, of those
    that a thread has of an output, that stay in registers; the others stay in shared memory.
    lengths, resets: whether a call has them; keeps: whether forward stores nothing for backward (0), the states (1), or
    all (2). These are no tuning numbers, but what a kernel leaves out where a call does without.
    """

    strategy: str
    product: str
    operand: str
    kept: str
    hidden: int
    blocks: int
    threads: int
    lanes: int
    splits: int
    units: int
    rows: int
    chunk: int
    register_vectors: int
    lengths: bool = True
    resets: bool = True
    keeps: int = 2

    @property
    def width(self) -> int:
        """Columns in a vector."""
        return VECTOR_BYTES // itemsize(self.operand)

    @property
    def span(self) -> int:
        """Columns of one vector in each thread that shares them: `hidden` is a multiple of it."""
        return self.lanes * self.splits * self.width

    @property
    def block_units(self) -> int:
        """Hidden units of a block."""
        if self.product == "mma":
            return self.threads // 32 // self.splits * self.units * 8
        return self.threads // self.lanes * self.units

    @property
    def per_lane(self) -> int:
        """Items of a thread and a chunk."""
        if self.product == "mma":
            return max(1, 2 * self.units * self.chunk // 8 // self.splits)
        return max(1, self.chunk * self.units // self.lanes)

    @property
    def digest(self) -> str:
        """A short name of these numbers."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:8]

    def source(self, name: str) -> str:
        """The struct `name` that the kernels are instantiated with."""
        numbers = "\n".join(
            f"  static constexpr int {field.name} = {int(getattr(self, field.name))};"
            for field in fields(self)
            if field.name not in ("strategy", "product", "operand", "kept")
        )
        return (
            f"struct {name} {{\n  using Operand = {CPP_TYPES[self.operand]};\n  using Kept = {CPP_TYPES[self.kept]};\n"
            f"  static constexpr Strategy strategy = Strategy::{self.strategy};\n{numbers}\n}};\n"
        )


@lru_cache(maxsize=256)
def products_of(cell: Cell, direction: str) -> tuple[tuple[int, int], ...]:
    """For each product of a step, the outputs and the inputs it has for a hidden unit."""
    if direction == "forward":
        return tuple((len(gates), 1) for gates in cell.stages)
    return tuple((1, len(stage.gates)) for stage in cell.program.backward_stages)


@dataclass(frozen=True)
class SequenceKernel:
    """A whole sequence in one launch: what it is compiled from, and what it takes."""

    cell: Cell
    dtype: str
    direction: str
    traits: Traits

    def of_call(self, *, lengths: bool, resets: bool, keeps: int) -> SequenceKernel:
        """The same for calls with or without these, see `Traits`."""
        keeps = keeps if self.direction == "forward" else 2
        return replace(self, traits=replace(self.traits, lengths=lengths, resets=resets, keeps=keeps))

    @property
    def entry(self) -> str:
        """The kernel's name."""
        kind = f"{self.traits.strategy}_{self.direction}"
        return f"rnn_gpu_{self.cell.name}_{self.cell.digest[:8]}_{self.dtype}_{kind}_{self.traits.digest}"

    @cached_property
    def products(self) -> tuple[tuple[int, int], ...]:
        return products_of(self.cell, self.direction)

    @property
    def real(self) -> str:
        """The working type."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def stride(self) -> int:
        """Numbers from a row of an operand to the next: columns of the widest, and what keeps rows apart in memory."""
        widest = self.traits.hidden * max((inputs for _, inputs in self.products), default=0)
        span = self.traits.lanes * self.traits.width
        return widest + (span if self.traits.product == "mma" and widest % (2 * span) == 0 else 0)

    def vectors(self, inputs: int) -> int:
        """Vectors of columns that a thread has of an output."""
        return self.traits.hidden * inputs // self.traits.span

    @property
    def weight_registers(self) -> int:
        """32-bit registers of a thread that hold columns of U."""
        kept = self.traits.register_vectors
        vectors = sum(outputs * min(self.vectors(inputs), kept) for outputs, inputs in self.products)
        return vectors * self.traits.units * VECTOR_BYTES // 4

    @property
    def weight_bytes(self) -> int:
        """Shared memory that holds the other columns of U."""
        kept = self.traits.register_vectors
        vectors = sum(outputs * max(self.vectors(inputs) - kept, 0) for outputs, inputs in self.products)
        return vectors * self.traits.units * self.traits.threads * self.traits.width * itemsize(self.dtype)

    @property
    def partial_bytes(self) -> int:
        """Shared memory through which warps that share columns add up."""
        traits = self.traits
        if traits.splits == 1:
            return 0
        items, outputs = 2 * traits.units * traits.chunk // 8, max((outputs for outputs, _ in self.products), default=0)
        return 2 * traits.threads * items * outputs * 4

    @property
    def operand_bytes(self) -> int:
        """Shared memory that holds operands, and counts their bytes."""
        rows = self.traits.chunk if self.traits.strategy == "grid" else self.traits.rows
        counters = COUNTER_BYTES if self.traits.strategy == "cluster" else 0
        return 2 * rows * self.stride * itemsize(self.traits.operand) + counters

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return self.operand_bytes + self.weight_bytes + self.partial_bytes


@dataclass(frozen=True)
class StepKernel:
    """An elementwise kernel between products: one segment of the cell, for one step, or `replay` for many."""

    cell: Cell
    dtype: str
    direction: str
    kept: str
    segment: int
    replay: bool = False

    @property
    def entry(self) -> str:
        """The kernel's name."""
        kind = "replay" if self.replay else f"step_{self.direction}"
        name = f"{self.cell.name}_{self.cell.digest[:8]}_{self.dtype}_{self.kept}"
        return f"rnn_gpu_{name}_{kind}_{self.segment}"


def itemsize(dtype: str) -> int:
    """Bytes of a number."""
    return {"float64": 8, "float32": 4}.get(dtype, 2)
