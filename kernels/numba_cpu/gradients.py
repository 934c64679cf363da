"""The gradients of the weights and of x: matrix products over all valid steps, cut into tasks for threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from rnn_gpu.kernels.numba_cpu import drivers, memory
from rnn_gpu.kernels.numba_cpu.jit import BUILD
from rnn_gpu.kernels.numba_cpu.layout import Layout
from rnn_gpu.kernels.numba_cpu.packing import Sizes, input_weights_back
from rnn_gpu.kernels.numba_cpu.pool import Task
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["GateRows", "InputGradient", "Source", "WeightGradient", "weight_tasks"]


class GateRows:
    """Gradients of the gates' products, [n_rows, stride], the first n_gates * H_p columns of which are used.

    A stride of whole memory pages would put all rows into the same few cache lines.
    """

    def __init__(self, n_rows: int, n_gates: int, sizes: Sizes, real: np.dtype[Any]) -> None:
        self.columns = n_gates * sizes.H_p
        conflicts = self.columns * real.itemsize % 1024 == 0
        self.stride = self.columns + (sizes.lanes if conflicts else 0)
        self.array = memory.empty(n_rows * self.stride, real)


class WeightGradient:
    """dw [n_gates * H_p, columns], padded, and the sums that are the bias's gradient."""

    def __init__(self, n_gates: int, columns: int, sizes: Sizes, real: np.dtype[Any]) -> None:
        self.columns, self.sizes = columns, sizes
        self.stride = sizes.padded(columns)
        self.dw = memory.empty(n_gates * sizes.H_p * self.stride, real)
        self.sums = np.zeros(n_gates * sizes.H_p)

    def matrix(self, hidden: int, blocks: Sequence[int]) -> Array:
        """The blocks [len(blocks) * H, columns] in that order, without padding."""
        padded = self.dw.reshape(len(self.sums) // self.sizes.H_p, self.sizes.H_p, self.stride)
        return padded[list(blocks), :hidden, : self.columns].reshape(len(blocks) * hidden, self.columns)

    def bias(self, hidden: int, blocks: Sequence[int]) -> Array:
        """The sums of the blocks, [len(blocks) * H]."""
        return self.sums.reshape(-1, self.sizes.H_p)[list(blocks), :hidden].reshape(-1)


@dataclass(frozen=True)
class Source:
    """A product to add to: gradient, and its right-hand rows, row r from element offsets[r] of `array` on."""

    gradient: WeightGradient
    array: Array
    offsets: Array

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.gradient.dw, self.gradient.stride, self.array, self.offsets, self.gradient.columns


def weight_tasks(
    rows: GateRows, begin: int, end: int, sums: Array, sources: Sequence[Source], sizes: Sizes, parts: int
) -> list[Task]:
    """Tasks for the gates' columns begin..end, multiples of H_p: `sums`, and one or two products."""
    cuts = [begin + (end - begin) // sizes.lanes * part // parts * sizes.lanes for part in range(parts + 1)]
    first = sources[0]
    second = sources[1].arguments if len(sources) > 1 else (first.gradient.dw, 0, first.array, first.offsets, 0)
    return [
        (drivers.weight_gradients, (BUILD, rows.array, rows.stride, a, b, sums, *first.arguments, *second))
        for a, b in pairwise(cuts)
        if a < b
    ]


class InputGradient:
    """dx = dP W, or dP itself where x is W x already."""

    def __init__(self, problem: Problem, inputs: Inputs, layout: Layout, sizes: Sizes, d_input: GateRows) -> None:
        self.problem, self.layout, self.sizes, self.d_input = problem, layout, sizes, d_input
        allocate = memory.empty if inputs.lengths is None else memory.zeros
        self.dx = allocate(problem.T * problem.B * problem.I, problem.real)
        self.w_t = None if problem.projected else input_weights_back(problem, inputs.weights, sizes)

    def tasks(self, parts: int) -> list[Task]:
        """Tasks that each own some of the valid steps."""
        if self.w_t is None:
            return []
        d_input, flat_rows = self.d_input, self.layout.flat_rows
        cuts = [self.layout.n_rows * part // parts for part in range(parts + 1)]
        return [
            (
                drivers.input_gradients,
                (
                    BUILD,
                    self.dx,
                    self.problem.I,
                    d_input.array,
                    d_input.stride,
                    d_input.columns,
                    self.w_t,
                    flat_rows,
                    a,
                    b,
                ),
            )
            for a, b in pairwise(cuts)
        ]

    def matrix(self) -> Array:
        """dx [T, B, I], once the tasks are done."""
        problem, n_rows, H_p = self.problem, self.layout.n_rows, self.sizes.H_p
        dx = self.dx.reshape(problem.T * problem.B, problem.I)
        if self.w_t is None:
            padded = self.d_input.array.reshape(n_rows, self.d_input.stride)[:, : self.d_input.columns]
            n_gates = self.d_input.columns // H_p
            dx[self.layout.flat_rows] = padded.reshape(n_rows, n_gates, H_p)[:, :, : problem.H].reshape(
                n_rows, problem.I
            )
        return dx.reshape(problem.T, problem.B, problem.I)
