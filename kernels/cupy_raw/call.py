"""One call on a device: its arrays in the form that kernels and products take them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw.device import Device
from rnn_gpu.kernels.cupy_raw.method import Method
from rnn_gpu.kernels.cupy_raw.packing import pack
from rnn_gpu.kernels.cupy_raw.parameters import Parameters
from rnn_gpu.kernels.cupy_raw.rows import Rows
from rnn_gpu.kernels.cupy_raw.shapes import Shapes
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["Call"]

BOOL = np.dtype(np.bool_)


class Call:
    """A problem, its arrays, the device that it runs on, and how.

    Axis letters: T, B, I, H, G, S as everywhere; N steps that exist, K stages.

    shapes: of all its steps. kept: the dtype that products by cuBLAS read, see `Plan`.
    common: the parameters that every kernel of the call takes. held: arrays that addresses of the call are of, besides
    the caller's.
    """

    def __init__(self, problem: Problem, inputs: Inputs, device: Device, method: Method, rows: Rows) -> None:
        self.problem, self.inputs, self.device, self.method, self.rows = problem, inputs, device, method, rows
        self.plan, self.kept = method.plan, method.plan.kept
        self.shapes = method.shapes if rows.table is None else Shapes(problem, method.plan, rows.N)
        self.held: list[Array] = []
        weights, dtype, memory, T = inputs.weights, problem.dtype, device.memory, problem.T
        common = Parameters(T, problem.B, problem.H, problem.reverse, 0, T)  # steps, rows, hidden, reverse, begin, end
        self.U = weights.w_hh
        """[S*H, H], the gates' blocks in the order of the stages."""
        self._kept_weights = 0
        if self.U is not None:
            self.U = self.dense(self.U, dtype)
            if self.order is not None:
                self.U = self.gates_by(self.order, self.U)
            common.U = memory.address(self.U)
        if weights.b_ih is not None:
            common.b_ih = self.at(weights.b_ih, dtype)
        if weights.b_hh is not None:
            common.b_hh = self.at(weights.b_hh, dtype)
        if problem.cell.vectors:
            common.vectors = self._vectors()
        if inputs.initial is not None:
            common.initial = self.states_at(inputs.initial)
        if isinstance(inputs.resets, np.ndarray):
            resets = memory.upload(inputs.resets)
            common.resets = memory.address(resets)
            self.held.append(resets)
        elif inputs.resets is not None:
            common.resets = self.at(inputs.resets, BOOL)  # what they hold at and after a row's end is not read
        if rows.table is not None:
            table = memory.upload(rows.table)
            common.starts = memory.address(table)
            common.ends = common.starts + (T + 1) * rows.table.itemsize
            common.order = common.ends + problem.B * rows.table.itemsize // 2
            self.held.append(table)
        self.common = common
        self.w_ih = None if weights.w_ih is None else self.at(weights.w_ih, self.kept)
        """[G*H, I] in the dtype that products read; None where x is W x."""
        self.x = self._x() if problem.cell.input_gates else 0

    def on(self, device: Device) -> Call:
        """The same call, with all that was made of its arrays, on the same device with perhaps another stream."""
        again = object.__new__(Call)
        again.__dict__.update(self.__dict__, device=device, held=[*self.held])
        return again

    def parameters(self) -> Parameters:
        """A kernel's argument: the common parameters, to which its own are added."""
        return self.common.copy()

    def at(self, array: Array, dtype: np.dtype[Any], held: list[Array] | None = None) -> int:
        """The address of the caller's array, row-major and aligned in `dtype`: its own, or that of a copy.

        The copy is added to `held`, by default to what the call keeps.
        """
        address = self.device.memory.dense_address(array, dtype)
        if address is None:
            copy = self._copied(array, dtype)
            (self.held if held is None else held).append(copy)
            address = self.device.memory.address(copy)
        return address

    def dense(self, array: Array, dtype: np.dtype[Any]) -> Array:
        """The caller's array, or one of the call's, row-major and aligned in `dtype`: itself, or a copy."""
        memory = self.device.memory
        array = memory.adopt(array)
        return array if memory.dense_address(array, dtype) is not None else self._copied(array, dtype)

    def _copied(self, array: Array, dtype: np.dtype[Any]) -> Array:
        memory = self.device.memory
        copy = memory.empty(tuple(array.shape), dtype)
        memory.copy(memory.adopt(array), copy)
        return copy

    def states(self, given: tuple[Array | None, ...]) -> Array:
        """A copy of the caller's (B, H) states as [n_state, B, H] in the working type; zeros for None."""
        memory, real = self.device.memory, self.problem.real
        shape = (len(given), self.problem.B, self.problem.H)
        states = memory.zeros(shape, real) if any(state is None for state in given) else memory.empty(shape, real)
        for k, state in enumerate(given):
            if state is not None:
                memory.copy(memory.adopt(state), states[k])
        return states

    def states_at(self, given: tuple[Array | None, ...]) -> int:
        """The address of the caller's states as [n_state, B, H] in the working type; 0, null, where all are None.

        Their own where they lie like this, as the last states of a call before do; else that of a copy.
        """
        real, memory = self.problem.real, self.device.memory
        apart = self.problem.B * self.problem.H * real.itemsize
        found = [None if state is None else memory.dense_address(state, real, real.itemsize) for state in given]
        first = found[0]
        if first is not None and all(address == first + k * apart for k, address in enumerate(found)):
            return first
        if all(state is None for state in given):
            return 0
        states = self.states(given)
        self.held.append(states)
        return memory.address(states)

    @property
    def order(self) -> tuple[int, ...] | None:
        """The declared number of the gate at each position of the order of the stages; None where they are the same."""
        return _order(self.problem.cell)

    def gates_by(self, order: Sequence[int], blocks: Array) -> Array:
        """The blocks [len(order) * H, ...] of the problem's dtype in that order."""
        memory = self.device.memory
        shape = tuple(blocks.shape)
        flat = blocks.reshape(len(order), -1)
        out = memory.empty(tuple(flat.shape), self.problem.dtype)
        memory.take_rows(flat, memory.upload(np.array(order, np.int64)), out)
        return out.reshape(shape)

    def kept_weights(self) -> int:
        """U in the dtype of what is kept; 0 where there is none."""
        if not self._kept_weights and self.U is not None:
            self._kept_weights = self.at(self.U, self.kept)
        return self._kept_weights

    def _x(self) -> int:
        """x, or W x where that is given, [N, I]: the steps that exist, in the dtype that products read."""
        problem, rows = self.problem, self.rows
        dtype = self._dtype_of_x()
        if rows.table is None:
            return self.at(self.inputs.x, dtype)
        held: list[Array] = []
        x = self.at(self.inputs.x, problem.dtype, held)
        packed = self.device.memory.empty((rows.N, problem.I), dtype)
        self.held.append(packed)
        address = self.device.memory.address(packed)
        pack(self.device, self.common, problem.I, (x, problem.dtype), (address, dtype))
        return address

    def _dtype_of_x(self) -> np.dtype[Any]:
        return self.problem.real if self.problem.projected else self.kept

    def input_products(self, begin: int, end: int, held: list[Array]) -> int:
        """The address of W x_t of the steps n from begin to end, [end - begin, G*H] in the working type.

        What is made for it is added to `held`.
        """
        problem, N = self.problem, end - begin
        x = self.x + begin * problem.I * self._dtype_of_x().itemsize
        if self.w_ih is None:
            return x
        memory = self.device.memory
        product = (self.shapes if N == self.rows.N else Shapes(problem, self.plan, N)).P
        P = memory.empty((N, product.out.columns), problem.real)
        held.append(P)
        address = memory.address(P)
        self.device.multiply(product, x, self.w_ih, address)
        return address

    def _vectors(self) -> int:
        """The address of [n_vector, H] of the problem's dtype."""
        names, memory = self.problem.cell.vectors, self.device.memory
        vectors = memory.empty((len(names), self.problem.H), self.problem.dtype)
        for k, name in enumerate(names):
            memory.copy(memory.adopt(self.inputs.weights.vectors[name]), vectors[k])
        self.held.append(vectors)
        return memory.address(vectors)


@lru_cache(maxsize=256)
def _order(cell: Cell) -> tuple[int, ...] | None:
    gates = [gate for stage in cell.stages for gate in stage]
    order = tuple(cell.recurrent_gates.index(gate) for gate in gates)
    return None if list(order) == sorted(order) else order
