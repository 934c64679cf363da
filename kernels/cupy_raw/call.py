"""One call on a device: its arrays in the form that kernels and products take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw.device import Device, Matrix
from rnn_gpu.kernels.cupy_raw.method import Method
from rnn_gpu.kernels.cupy_raw.parameters import PARAMETERS
from rnn_gpu.kernels.cupy_raw.plan import Plan
from rnn_gpu.kernels.cupy_raw.rows import Rows
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["Call"]


@dataclass(frozen=True, eq=False)
class Call:
    """A problem, its arrays, the device that it runs on, and how.

    Axis letters: T, B, I, H, G, S as everywhere; N steps that exist, K stages.
    """

    problem: Problem
    inputs: Inputs
    device: Device
    method: Method
    rows: Rows

    def on(self, device: Device) -> Call:
        """The same call, with all that was made of its arrays, on the same device with perhaps another stream."""
        again = object.__new__(Call)
        again.__dict__.update(self.__dict__, device=device)
        return again

    @property
    def plan(self) -> Plan:
        return self.method.plan

    @property
    def operand(self) -> np.dtype[Any]:
        """The dtype that products by cuBLAS read, and that their gradients are kept in."""
        return self.method.plan.operand

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return self.device.memory.empty(shape, dtype)

    def matrix(self, array: Array, rows: int, columns: int, dtype: np.dtype[Any]) -> Matrix:
        """A dense array's numbers as rows of a matrix."""
        return Matrix(self.device.memory.address(array), rows, columns, columns, dtype, array)

    def dense(self, array: Array, dtype: np.dtype[Any]) -> Array:
        """The caller's array, row-major and aligned in `dtype`: itself, or a copy."""
        memory = self.device.memory
        array = memory.adopt(array)
        if memory.is_dense(array, dtype):
            return array
        copy = memory.empty(tuple(array.shape), dtype)
        memory.copy(array, copy)
        return copy

    def states(self, given: tuple[Array | None, ...] | None) -> Array | None:
        """A copy of the caller's (B, H) states as [n_state, B, H] in the working type; None for all zeros."""
        if given is None or all(state is None for state in given):
            return None
        memory, real = self.device.memory, self.problem.real
        shape = (len(given), self.problem.B, self.problem.H)
        states = memory.zeros(shape, real) if any(state is None for state in given) else memory.empty(shape, real)
        for k, state in enumerate(given):
            if state is not None:
                memory.copy(memory.adopt(state), states[k])
        return states

    @property
    def order(self) -> tuple[int, ...] | None:
        """The declared number of the gate at each position of the order of the stages; None where they are the same."""
        return _order(self.problem.cell)

    @cached_property
    def U(self) -> Array | None:
        """[S*H, H] of the problem's dtype, the gates' blocks in the order of the stages."""
        if not self.problem.cell.recurrent_gates:
            return None
        U = self.dense(self.inputs.weights.w_hh, self.problem.dtype)
        return U if self.order is None else self.gates_by(self.order, U)

    @cached_property
    def operand_weights(self) -> Matrix:
        """U in the dtype of the operands."""
        H = self.problem.H
        rows = len(self.problem.cell.recurrent_gates) * H
        return self.matrix(self.dense(self.U, self.operand), rows, H, self.operand)

    def gates_by(self, order: Sequence[int], blocks: Array) -> Array:
        """The blocks [len(order) * H, ...] of the problem's dtype in that order."""
        memory = self.device.memory
        shape = tuple(blocks.shape)
        flat = blocks.reshape(len(order), -1)
        out = memory.empty(tuple(flat.shape), self.problem.dtype)
        memory.take_rows(flat, memory.upload(np.array(order, np.int64)), out)
        return out.reshape(shape)

    @cached_property
    def x(self) -> Matrix:
        """x, or W x where that is given, [N, I]: the steps that exist, in the dtype that products read."""
        problem, rows = self.problem, self.rows
        dtype = problem.real if problem.projected else self.operand
        if not rows.packed:
            return self.matrix(self.dense(self.inputs.x, dtype), rows.N, problem.I, dtype)
        x = self.dense(self.inputs.x, problem.dtype).reshape(problem.T * problem.B, problem.I)
        packed = self.empty((rows.N, problem.I), dtype)
        self.device.memory.take_rows(x, self.flat, packed)
        return self.matrix(packed, rows.N, problem.I, dtype)

    @cached_property
    def w_ih(self) -> Matrix:
        """[G*H, I] in the dtype that products read."""
        rows = len(self.problem.cell.input_gates) * self.problem.H
        w_ih = self.dense(self.inputs.weights.w_ih, self.operand)
        return self.matrix(w_ih, rows, self.problem.I, self.operand)

    @cached_property
    def flat(self) -> Array:
        """`Rows.flat` on the device."""
        assert self.rows.flat is not None
        return self.device.memory.upload(self.rows.flat)

    def input_products(self, begin: int, end: int) -> Matrix:
        """W x_t of the steps n from begin to end, [end - begin, G*H] in the working type."""
        x = self.x
        if end - begin < x.rows:
            x = x.block(begin, end - begin)
        if self.problem.projected:
            return x
        w, real = self.w_ih, self.problem.real
        P = self.matrix(self.empty((end - begin, w.rows), real), end - begin, w.rows, real)
        self.device.matmul(x, w.T, P, tf32=self.plan.tf32)
        return P

    @cached_property
    def initial(self) -> Array | None:
        """The initial states, [n_state, B, H]; None for zeros."""
        return self.states(self.inputs.initial)

    @cached_property
    def vectors(self) -> Array | None:
        """[n_vector, H] of the problem's dtype."""
        names, memory = self.problem.cell.vectors, self.device.memory
        if not names:
            return None
        vectors = memory.empty((len(names), self.problem.H), self.problem.dtype)
        for k, name in enumerate(names):
            memory.copy(memory.adopt(self.inputs.weights.vectors[name]), vectors[k])
        return vectors

    @cached_property
    def common(self) -> tuple[dict[str, int], list[Array]]:
        """The parameters that every kernel of the call takes, by name, and the arrays that their addresses are of."""
        problem, rows = self.problem, self.rows
        weights = self.inputs.weights
        arrays = {
            "U": self.U,
            "b_ih": None if weights.b_ih is None else self.dense(weights.b_ih, problem.dtype),
            "b_hh": None if weights.b_hh is None else self.dense(weights.b_hh, problem.dtype),
            "vectors": self.vectors,
            "initial": self.initial,
            "resets": self._resets(),
        }
        if rows.packed:
            upload = self.device.memory.upload
            for name, dtype in (("ends", np.int32), ("order", np.int32), ("starts", np.int64)):
                arrays[name] = upload(getattr(rows, name).astype(dtype))
        fields = {"steps": problem.T, "rows": problem.B, "hidden": problem.H, "reverse": int(problem.reverse)}
        fields |= {"begin": 0, "end": problem.T}
        address = self.device.memory.address
        fields |= {name: address(array) for name, array in arrays.items() if array is not None}
        return fields, list(arrays.values())

    def _resets(self) -> Array | None:
        """[T, B] uint8; what they hold at and after a row's end is not read."""
        resets = self.inputs.resets
        if isinstance(resets, np.ndarray):
            return self.device.memory.upload(resets.astype(np.uint8))
        return None if resets is None else self.dense(resets, np.dtype(np.uint8))

    def parameters(self, fields: dict[str, int]) -> bytes:
        """A kernel's argument: the common parameters and these."""
        common, _ = self.common
        return PARAMETERS.pack(common | fields)


@lru_cache(maxsize=256)
def _order(cell: Cell) -> tuple[int, ...] | None:
    gates = [gate for stage in cell.stages for gate in stage]
    order = tuple(cell.recurrent_gates.index(gate) for gate in gates)
    return None if list(order) == sorted(order) else order
