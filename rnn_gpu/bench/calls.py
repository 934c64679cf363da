"""The numbers that a case is measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.arrays import dtype_named
from rnn_gpu.bench.shapes import Case
from rnn_gpu.weights import Weights, init_weights

__all__ = ["Call", "draw"]


@dataclass(frozen=True)
class Call:
    """A case with its arrays: x (T, B, I), the parameters, and the gradient dy (T, B, H) that training sends back.

    lengths (B,) and resets (T, B), where the case has any, as `rnn_gpu.forward` takes them.
    """

    case: Case
    x: NDArray[Any]
    parameters: Weights
    dy: NDArray[Any]
    lengths: NDArray[Any] | None = None
    resets: NDArray[Any] | None = None

    @cached_property
    def weights(self) -> Weights:
        """The parameters, frozen where the case says so."""
        return self.parameters.frozen() if self.case.frozen else self.parameters

    def astype(self, dtype: str) -> Call:
        """The call with the same numbers in another type."""
        to = dtype_named(dtype)
        parameters = self.parameters.map(lambda array: array.astype(to))
        case = replace(self.case, dtype=dtype)
        return replace(self, case=case, x=self.x.astype(to), parameters=parameters, dy=self.dy.astype(to))

    def of(self, case: Case) -> Call:
        """The same arrays for another case of the same cell, shape and type."""
        return replace(self, case=case)


def draw(case: Case, seed: int = 0) -> Call:
    """Draw a case's numbers; the same for the same cell, shape, type and seed, whatever the mode.

    A ragged case has lengths from 1 to T; one with resets has them before that share of all steps.
    """
    rng = np.random.default_rng(seed)
    T, B, I, H = case.shape
    parameters = init_weights(case.cell, None if case.projected else I, H, dtype=case.dtype, seed=seed)
    inputs = I if case.cell.input_gates else H
    x, dy = (rng.standard_normal((T, B, n), np.float32).astype(dtype_named(case.dtype)) for n in (inputs, H))
    lengths = rng.integers(1, T + 1, B) if case.ragged else None
    resets = rng.random((T, B)) < case.resets if case.resets else None
    return Call(case, x, parameters, dy, lengths, resets)
