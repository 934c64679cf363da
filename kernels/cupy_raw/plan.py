"""Which kernels run a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_gpu.kernels.cupy_raw.traits import SequenceKernel

__all__ = ["Choice", "Plan"]


@dataclass(frozen=True)
class Choice:
    """A sequence kernel, and how many teams of its blocks share the tiles of rows."""

    kernel: SequenceKernel
    tiles: int
    teams: int


@dataclass(frozen=True)
class Plan:
    """How a call is run. forward, backward: the sequence kernels, None for step by step.

    operand: dtype that recurrent products read, and that their gradients are kept in; tf32: of float32 products.
    """

    forward: Choice | None
    backward: Choice | None
    operand: np.dtype[Any]
    tf32: bool
