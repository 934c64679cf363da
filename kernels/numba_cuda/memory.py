"""Arrays on the device: made, brought there, converted and brought back.

Kernels take flat arrays of the working type. 16 bits are storage: float16 is converted by the device, bfloat16 through
the integers of its bits, as Numba has no such arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from rnn_gpu.arrays import dtype_name, name_of
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.numba_cuda.device_array import BFLOAT16_BITS
from rnn_gpu.kernels.numba_cuda.jit import SIMULATED, device, kernel, simulate
from rnn_gpu.kernels.numba_cuda.libraries import dummies, is_out_of_memory, memory_of
from rnn_gpu.kernels.numba_cuda.traits import TRAITS
from rnn_gpu.problem import Problem

if not SIMULATED:
    from rnn_gpu.kernels.numba_cuda.launching import compiled, launch_each, on_device

__all__ = ["Queue", "active"]

Array = Any

_INTEGERS = {"bfloat16": BFLOAT16_BITS}
"""What arrays of dtypes that Numba lacks are kept as."""


class Queue:
    """Where a problem's work is queued: its device, its stream, and the working type of its arrays.

    nothing, no_rows, nothing_int, nothing_flags: arrays for kernels that take one and will not read it.
    """

    def __init__(self, problem: Problem) -> None:
        library = problem.library
        self.problem, self.real = problem, problem.real
        self._name = name_of(problem.real)
        self.on_host = library.kind == "cpu"
        self.device = library.index
        self.stream = 0 if self.on_host or SIMULATED else library.stream()
        self._memory = memory_of(library, self.stream)
        self.nothing, self.no_rows, self.nothing_int, self.nothing_flags = dummies(self.device, self._name)

    def launch(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], shared: int, *arguments: Any) -> None:
        """Launch a kernel with arrays, integers and tuples of them; nothing for an empty grid."""
        self.launch_each(kernel, grid, block, shared, arguments, [()])

    def launch_each(
        self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], shared: int, arguments: Sequence[Any],
        lasts: Sequence[tuple[int, ...]],
    ) -> None:  # fmt: skip
        """Launch a kernel for each of `lasts`, the integers that follow the arguments."""
        if 0 in grid:
            return
        if not SIMULATED:
            launch_each(self.device, self.stream, kernel, grid, block, shared, arguments, lasts)
            return
        for last in lasts:
            simulate(kernel, grid, block, shared, *arguments, *last)

    def compiled(self, kernel: Any, *arguments: Any) -> Any:
        """The kernel as it is loaded on the device for arguments like these."""
        return compiled(self.device, kernel, arguments)

    def empty(self, size: int, dtype: Any = None) -> Array:
        """A flat array that holds anything."""
        return self._memory.empty(max(size, 1), self.real if dtype is None else np.dtype(dtype))

    def zeros(self, size: int, dtype: Any = None) -> Array:
        """A flat array of zeros."""
        array = self.empty(size, dtype)
        self._memory.clear(array)
        return array

    def over(self, size: int, kernel: Any, *arguments: Any) -> None:
        """Launch a kernel whose threads share out `size` elements, its last argument."""
        blocks = min(-(-size // TRAITS.wide), TRAITS.wide_blocks)
        self.launch(kernel, (blocks,), (TRAITS.wide,), 0, *arguments, size)

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        """A flat copy of a host array."""
        flat = np.ascontiguousarray(array).reshape(-1)
        return self._memory.upload(flat if flat.size else np.zeros(1, flat.dtype))

    def take(self, array: Array) -> Array:
        """The caller's array as a flat one of the working type: a copy only where it must be one."""
        name = dtype_name(array)
        if name == self._name and not self.on_host:  # nearly always, and quicker than to look at all there is
            dense = self._memory.dense(array, self.real)
            if dense is not None:
                return dense if dense.size else self.nothing
        ours = self._ours(array, name)
        if name == self._name and ours.is_c_contiguous():
            return ours.reshape(-1) if ours.size else self.nothing
        out = self.empty(ours.size)
        shape = (1,) * (3 - len(ours.shape)) + tuple(ours.shape)
        if ours.size:
            source = ours.reshape(-1) if ours.is_c_contiguous() else ours
            self._convert(source, out, shape, name)
        return out

    def joined(self, arrays: Sequence[Array | None], size: int) -> Array:
        """The caller's arrays of `size` elements each, one behind the other; zeros for None."""
        if not arrays:
            return self.nothing
        if all(array is None for array in arrays):
            return self.zeros(len(arrays) * size)
        out = self.empty(len(arrays) * size)
        for k, array in enumerate(arrays):
            part = out[k * size : (k + 1) * size]
            if size and array is None:
                self._memory.clear(part)
            elif size:
                self.copy(self.take(array), part)
        return out

    def copy(self, source: Array, out: Array) -> None:
        """out[...] = source, flat arrays of the working type and of one size."""
        self.over(out.size, _copy_kernel(1, False), source, out, 1, 1)

    def flags(self, array: Array) -> Array:
        """A (T, B) bool array, of the host or the caller's on the device, as flat bytes."""
        if isinstance(array, np.ndarray):
            return self.upload(array.view(np.uint8))
        ours = self._memory.seen(array).view(np.uint8)
        if ours.is_c_contiguous():
            return ours.reshape(-1)
        out = self.empty(ours.size, np.uint8)
        self.over(ours.size, _copy_kernel(2, False), ours, out, 1, ours.shape[1])
        return out

    def _ours(self, array: Array, name: str) -> Array:
        if isinstance(array, np.ndarray):
            bits = array.view(_INTEGERS[name]) if name in _INTEGERS else array
            return self._memory.upload(np.ascontiguousarray(bits)) if bits.size else self.nothing[:0]
        return self._memory.seen(array)

    def _convert(self, source: Array, out: Array, shape: tuple[int, ...], name: str) -> None:
        widen = name == "bfloat16"
        target = out.view(np.uint32) if widen else out
        run = _copy_kernel(len(source.shape), widen)
        self.over(out.size, run, source, target, shape[1], shape[2])

    def stored(self, array: Array) -> Array:
        """A flat array of the working type in the problem's dtype: itself, or a rounded copy."""
        dtype = self.problem.dtype
        if dtype == self.real:
            return array
        integers = _INTEGERS.get(name_of(dtype))
        out = self.empty(array.size, integers or dtype)
        source = array if integers is None else array.view(np.uint32)
        self.over(array.size, _narrow(integers is not None), source, out)
        return out

    def give(self, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A flat array as the caller gets it: of that shape, a NumPy array where the caller's are on the host."""
        size = math.prod(shape)
        part = array if array.size == size else array[:size]
        if self.on_host:
            return self._memory.on_host(part).view(dtype).reshape(shape)
        return self._memory.given(part, shape, dtype)

    def give_states(self, array: Array) -> tuple[Array, ...]:
        """A flat array [n_states, B, H] as the caller gets it."""
        shape = (self.problem.B, self.problem.H)
        size = shape[0] * shape[1]
        return tuple(
            self.give(array[k * size : (k + 1) * size], shape, self.real) for k in range(len(self.problem.cell.states))
        )


@contextmanager
def active(problem: Problem) -> Iterator[Queue]:
    """A queue for the problem, on its device. Running out of device memory within is a MemoryError."""
    index = problem.library.index
    try:
        with cuda.gpus[index] if SIMULATED else on_device(index):
            yield Queue(problem)
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(f"numba_cuda: not enough memory on the device for {problem}") from error
        if isinstance(error, _driver_errors()):
            raise BackendError(f"numba_cuda: {problem}: {error}") from error
        raise


def _driver_errors() -> tuple[type[Exception], ...]:
    return () if SIMULATED else (cuda.cudadrv.driver.CudaAPIError,)


@device
def _unchanged(value: Any) -> Any:
    return value


@device
def _widened(bits: Any) -> Any:
    """bfloat16 is the upper half of float32's bits."""
    return np.uint32(bits) << np.uint32(16)


@device
def _rounded_bits(bits: Any) -> Any:
    """float32's bits to bfloat16's: to the nearest, at a tie to the even one; NaN stays NaN."""
    if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        return np.uint16((bits >> np.uint32(16)) | np.uint32(0x40))
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@cache
def _copy_kernel(n_axes: int, widen: bool) -> Any:
    """out = source in row-major order; source has any strides. b, c: its last two axes."""
    change = _widened if widen else _unchanged

    def copy_flat(source: Array, out: Array, b: int, c: int, size: int) -> None:
        i = cuda.grid(1)
        while i < size:
            out[i] = change(source[i])
            i += cuda.gridsize(1)

    def copy_matrix(source: Array, out: Array, b: int, c: int, size: int) -> None:
        i = cuda.grid(1)
        while i < size:
            out[i] = change(source[i // c, i % c])
            i += cuda.gridsize(1)

    def copy_cube(source: Array, out: Array, b: int, c: int, size: int) -> None:
        i = cuda.grid(1)
        while i < size:
            row = i // c
            out[i] = change(source[row // b, row % b, i % c])
            i += cuda.gridsize(1)

    return kernel({1: copy_flat, 2: copy_matrix, 3: copy_cube}[n_axes])


@cache
def _narrow(bits: bool) -> Any:
    """out = source rounded to 16 bits."""
    change = _rounded_bits if bits else _unchanged

    def narrow(source: Array, out: Array, size: int) -> None:
        i = cuda.grid(1)
        while i < size:
            out[i] = change(source[i])
            i += cuda.gridsize(1)

    return kernel(narrow)
