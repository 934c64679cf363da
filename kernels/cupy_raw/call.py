"""One call on a device: its arrays in the form that kernels and products take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rnn_gpu.kernels.cupy_raw.device import Device
from rnn_gpu.kernels.cupy_raw.parameters import parameters
from rnn_gpu.kernels.cupy_raw.plan import Plan
from rnn_gpu.kernels.cupy_raw.rows import Rows
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["Call"]

ALIGNMENT = 16
"""Bytes to which arrays that products and kernels read are aligned."""


@dataclass(frozen=True)
class Call:
    """A problem, its arrays, the device that it runs on, and how.

    Axis letters: T, B, I, H, G, S as everywhere; N steps that exist, K stages.
    """

    problem: Problem
    inputs: Inputs
    device: Device
    plan: Plan
    rows: Rows

    @property
    def operand(self) -> np.dtype[Any]:
        """The dtype that recurrent products read, and that gradients of products are kept in."""
        return self.plan.operand

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        return self.device.empty(tuple(shape), dtype)

    def dense(self, array: Array, dtype: np.dtype[Any]) -> Array:
        """The caller's array, row-major and aligned in `dtype`: itself, or a copy."""
        array = self.device.adopt(array)
        expected, contiguous = array.dtype.itemsize, True
        for size, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
            contiguous = contiguous and (size == 1 or stride == expected)
            expected *= size
        if contiguous and array.dtype == dtype and self.device.address(array) % ALIGNMENT == 0:
            return array
        copy = self.empty(array.shape, dtype)
        self.device.copy(array, copy)
        return copy

    def states(self, given: tuple[Array | None, ...] | None) -> Array | None:
        """The caller's (B, H) states as [n_state, B, H] in the working type; None for all zeros."""
        if given is None or all(state is None for state in given):
            return None
        shape = (len(given), self.problem.B, self.problem.H)
        complete = all(state is not None for state in given)
        states = self.empty(shape, self.problem.real) if complete else self.device.zeros(shape, self.problem.real)
        for k, state in enumerate(given):
            if state is not None:
                self.device.copy(self.device.adopt(state), states[k])
        return states

    @cached_property
    def positions(self) -> list[int]:
        """The declared number of the gate at each position of the order of the stages."""
        gates = [gate for stage in self.problem.cell.stages for gate in stage]
        return [self.problem.cell.recurrent_gates.index(gate) for gate in gates]

    @property
    def in_order(self) -> bool:
        """Whether the gates are declared in the order of the stages."""
        return self.positions == sorted(self.positions)

    @cached_property
    def U(self) -> Array | None:
        """[S*H, H] of the problem's dtype, the gates' blocks in the order of the stages."""
        if not self.positions:
            return None
        U = self.dense(self.inputs.weights.w_hh, self.problem.dtype)
        return U if self.in_order else self.gates_by(self.positions, U)

    def gates_by(self, order: Sequence[int], blocks: Array) -> Array:
        """The blocks [len(order) * H, ...] in that order."""
        shape = tuple(blocks.shape)
        flat = blocks.reshape(len(order), -1)
        out = self.empty(flat.shape, blocks.dtype)
        self.device.take_rows(flat, self.device.upload(np.array(order, np.int64)), out)
        return out.reshape(shape)

    @cached_property
    def x_rows(self) -> Array:
        """x, or W x where that is given, [N, I]: the steps that exist, in the dtype that products read."""
        problem, device = self.problem, self.device
        dtype = problem.real if problem.projected else self.operand
        if not self.rows.packed:
            return self.dense(self.inputs.x, dtype).reshape(self.rows.N, problem.I)
        x = self.dense(self.inputs.x, problem.dtype).reshape(problem.T * problem.B, problem.I)
        packed = self.empty((self.rows.N, problem.I), dtype)
        device.take_rows(x, self.flat, packed)
        return packed

    @cached_property
    def flat(self) -> Array:
        """`Rows.flat` on the device."""
        assert self.rows.flat is not None
        return self.device.upload(self.rows.flat)

    def input_products(self, begin: int, end: int) -> Array:
        """W x_t of the steps n from begin to end, [end - begin, G*H] in the working type."""
        x = self.x_rows[begin:end]
        if self.problem.projected:
            return x
        w = self.dense(self.inputs.weights.w_ih, self.operand)
        P = self.empty((end - begin, w.shape[0]), self.problem.real)
        self.device.matmul(x, w.T, P, tf32=self.plan.tf32)
        return P

    @cached_property
    def common(self) -> dict[str, Array | None]:
        """The arrays that every kernel of the call takes, by the names of its parameters."""
        problem, weights, real = self.problem, self.inputs.weights, self.problem.real
        vectors = None
        if problem.cell.vectors:
            vectors = self.empty((len(problem.cell.vectors), problem.H), real)
            for k, name in enumerate(problem.cell.vectors):
                self.device.copy(self.device.adopt(weights.vectors[name]), vectors[k])
        rows, upload = self.rows, self.device.upload
        return {
            "U": self.U,
            "b_ih": None if weights.b_ih is None else self.dense(weights.b_ih, real),
            "b_hh": None if weights.b_hh is None else self.dense(weights.b_hh, real),
            "vectors": vectors,
            "initial": self.states(self.inputs.initial),
            "resets": self._resets(),
            "ends": None if rows.ends is None else upload(rows.ends.astype(np.int32)),
            "order": None if rows.order is None else upload(rows.order.astype(np.int32)),
            "starts": None if rows.starts is None else upload(rows.starts.astype(np.int64)),
        }

    def _resets(self) -> Array | None:
        """[T, B] uint8; what they hold at and after a row's end is not read."""
        resets = self.inputs.resets
        if isinstance(resets, np.ndarray):
            return self.device.upload(resets.astype(np.uint8))
        return None if resets is None else self.dense(resets, np.dtype(np.uint8))

    def parameters(self, arrays: dict[str, Array | None], **numbers: int) -> np.void:
        """A kernel's argument: sizes, the common arrays and these."""
        problem = self.problem
        fields = {"steps": problem.T, "rows": problem.B, "hidden": problem.H, "reverse": int(problem.reverse)}
        fields |= {"begin": 0, "end": problem.T} | numbers
        for name, array in (self.common | arrays).items():
            if array is not None:
                fields[name] = self.device.address(array)
        return parameters(fields)
