"""What is measured: shapes, and cases, which are a cell at a shape in a mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from rnn_gpu.arrays import dtype_named
from rnn_gpu.compiler.cell import Cell

__all__ = ["MODES", "Case", "Mode", "Shape", "in_words"]

Mode = Literal["forward", "keep", "train", "step"]
"""forward: a whole sequence, nothing kept; keep: the same, keeping what backward needs; train: forward and backward,
all gradients; step: one time step a call."""

MODES: tuple[Mode, ...] = ("forward", "train", "step")
"""Those of the suites for the CPU."""


class Shape(NamedTuple):
    """T time steps, B batch rows, I inputs, H hidden units."""

    T: int
    B: int
    I: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


def in_words(
    mode: Mode,
    *,
    frozen: bool = False,
    ragged: bool = False,
    resets: float = 0.0,
    projected: bool = False,
    recompute: bool = False,
) -> str:
    """The mode, and what of a `Case`'s options it has."""
    options = [
        *(["frozen weights"] if frozen else []),
        *(["ragged"] if ragged else []),
        *([f"{resets:g} resets"] if resets else []),
        *(["projected"] if projected else []),
        *(["recompute"] if recompute else []),
    ]
    return ", ".join([mode, *options])


@dataclass(frozen=True)
class Case:
    """A cell at a shape in a mode.

    A step case is T calls, the state carried from each to the next; times are those of one call.
    frozen: the weights are declared unchanging, so that a backend may keep what it makes of them.
    ragged: rows have lengths from 1 to T; resets: the share of steps before which a row's state is zeroed.
    projected: x is W x_t already, and there is no input product. tf32: products may use TF32.
    recompute: only the states are kept for backward, which computes the rest again.
    """

    cell: Cell
    shape: Shape
    mode: Mode
    dtype: str = "float32"
    frozen: bool = False
    ragged: bool = False
    resets: float = 0.0
    projected: bool = False
    tf32: bool = False
    recompute: bool = False

    def __str__(self) -> str:
        return f"{self.cell.name} {self.shape} {self.what}"

    @property
    def what(self) -> str:
        """What is done at the shape: the mode and the options, in words."""
        return in_words(
            self.mode, frozen=self.frozen, ragged=self.ragged, resets=self.resets, projected=self.projected,
            recompute=self.recompute,
        )  # fmt: skip

    @property
    def calls(self) -> int:
        """Calls in one run."""
        return self.shape.T if self.mode == "step" else 1

    @property
    def flops(self) -> float:
        """Floating-point operations of the matrix products of one call; the cell's arithmetic is not counted.

        Training has three products for each of forward's: forward's own, the operand's gradient and the weights'.
        """
        T, B, I, H = self.shape
        inputs = 0 if self.projected else I
        columns = H * (inputs * len(self.cell.input_gates) + H * len(self.cell.recurrent_gates))
        return 2.0 * T * B * columns / self.calls * (3 if self.mode == "train" else 1)

    @property
    def traffic(self) -> float:
        """Bytes that one call moves at the least: every array that goes in or comes out, once.

        Forward reads x and the weights, and writes y. Training also reads dy, and writes dx and the weights' gradients.
        What a backend keeps between the two is its own affair and not counted, nor are states, biases and vectors.
        """
        T, B, I, H = self.shape
        inputs = 0 if self.projected else I
        weights = H * (inputs * len(self.cell.input_gates) + H * len(self.cell.recurrent_gates))
        elements = T * B * (I + H) / self.calls + weights
        return elements * dtype_named(self.dtype).itemsize * (2 if self.mode == "train" else 1)
