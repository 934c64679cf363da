"""The tuning numbers of one kernel, and what follows from them: `Traits` in the kernels' source is written from these.

What the kernels compute from their traits by themselves is computed here too, for the plan, and each compilation
compares the two.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np

from rnn_gpu.compiler.cell import Cell

__all__ = ["CPP_TYPES", "DIRECTIONS", "SequenceKernel", "StepKernel", "Traits", "products_of"]

CPP_TYPES = {"float64": "double", "float32": "float", "float16": "Half", "bfloat16": "BFloat16"}
"""What the kernels call each dtype."""

DIRECTIONS = ("forward", "backward")

VECTOR_BYTES = 16
"""Of an operand, loaded at once."""


@dataclass(frozen=True)
class Traits:
    """Tuning numbers of a sequence kernel.

    strategy: "block", "cluster" or "grid"; operand: dtype that products read.
    hidden: the largest H, to which columns are padded; blocks: of a team; threads: of a block.
    lanes: threads that share the columns of a hidden unit; units: hidden units of a group of lanes.
    rows: of a tile; chunk: rows whose sums are in registers at a time; register_vectors: vectors of columns, of those
    that a thread has of an output, that stay in registers; the others stay in shared memory.
    """

    strategy: str
    operand: str
    hidden: int
    blocks: int
    threads: int
    lanes: int
    units: int
    rows: int
    chunk: int
    register_vectors: int

    @property
    def block_units(self) -> int:
        """Hidden units of a block."""
        return self.threads // self.lanes * self.units

    @property
    def per_lane(self) -> int:
        """Items of a thread and a chunk."""
        return max(1, self.chunk * self.units // self.lanes)

    @property
    def digest(self) -> str:
        """A short name of these numbers."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:8]

    def source(self, name: str) -> str:
        """The struct `name` that the kernels are instantiated with."""
        numbers = "\n".join(
            f"  static constexpr int {field} = {getattr(self, field)};"
            for field in ("hidden", "blocks", "threads", "lanes", "units", "rows", "chunk", "register_vectors")
        )
        return (
            f"struct {name} {{\n  using Operand = {CPP_TYPES[self.operand]};\n"
            f"  static constexpr Strategy strategy = Strategy::{self.strategy};\n{numbers}\n}};\n"
        )


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
    def max_columns(self) -> int:
        """Columns of the widest operand."""
        return self.traits.hidden * max((inputs for _, inputs in self.products), default=0)

    def vectors(self, inputs: int) -> int:
        """Vectors of columns that a thread has of an output."""
        width = VECTOR_BYTES // np.dtype(self.real).itemsize
        return self.traits.hidden * inputs // (self.traits.lanes * width)

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
        width = VECTOR_BYTES // np.dtype(self.real).itemsize
        return vectors * self.traits.units * self.traits.threads * width * _itemsize(self.dtype)

    @property
    def operand_bytes(self) -> int:
        """Shared memory that holds operands."""
        rows = self.traits.chunk if self.traits.strategy == "grid" else self.traits.rows
        return 2 * rows * self.max_columns * _itemsize(self.traits.operand)

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return self.operand_bytes + self.weight_bytes


@dataclass(frozen=True)
class StepKernel:
    """An elementwise kernel between products: one segment of the cell, for one step, or `replay` for many."""

    cell: Cell
    dtype: str
    direction: str
    operand: str
    segment: int
    replay: bool = False

    @property
    def entry(self) -> str:
        """The kernel's name."""
        kind = "replay" if self.replay else f"step_{self.direction}"
        name = f"{self.cell.name}_{self.cell.digest[:8]}_{self.dtype}_{self.operand}"
        return f"rnn_gpu_{name}_{kind}_{self.segment}"


def _itemsize(dtype: str) -> int:
    return {"float64": 8, "float32": 4}.get(dtype, 2)
