"""What is measured: shapes, and cases, which are a cell at a shape in a mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from rnn_gpu.compiler.cell import Cell

__all__ = ["MODES", "Case", "Mode", "Shape"]

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


@dataclass(frozen=True)
class Case:
    """A cell at a shape in a mode.

    A step case is T calls, the state carried from each to the next; times are those of one call.
    frozen: the weights are declared unchanging, so that a backend may keep what it makes of them.
    ragged: rows have lengths from 1 to T; resets: the share of steps before which a row's state is zeroed.
    projected: x is W x_t already, and there is no input product. tf32: products may use TF32.
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

    def __str__(self) -> str:
        options = [
            *(["frozen weights"] if self.frozen else []),
            *(["ragged"] if self.ragged else []),
            *([f"{self.resets:g} resets"] if self.resets else []),
            *(["projected"] if self.projected else []),
        ]
        return ", ".join([f"{self.cell.name} {self.shape} {self.mode}", *options])

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
