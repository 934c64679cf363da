"""Memory of CuPy's pool, for callers of CuPy and of Numba, whose arrays are seen as CuPy's."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from rnn_gpu.cuda_arrays import to_cupy
from rnn_gpu.kernels.cupy_raw.device import ALIGNMENT

__all__ = ["CupyMemory"]

Array = Any


class CupyMemory:
    """See `Memory`. The pool hands a block that was freed on a stream to the next user of that stream only."""

    def adopt(self, array: Array) -> Array:
        return array if type(array) is cupy.ndarray else to_cupy(array)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return cupy.ndarray(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return cupy.zeros(shape, dtype)

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        return cupy.array(array, order="C")

    def parts(self, array: Array) -> tuple[Array, ...]:
        return tuple([array[k] for k in range(len(array))])

    def address(self, array: Array) -> int:
        address: int = array.data.ptr
        return address

    def dtype(self, array: Array) -> np.dtype[Any]:
        dtype: np.dtype[Any] = array.dtype
        return dtype

    def dense_address(self, array: Array, dtype: np.dtype[Any], alignment: int = ALIGNMENT) -> int | None:
        if type(array) is not cupy.ndarray:
            array = to_cupy(array)
        address: int = array.data.ptr
        return address if array.dtype == dtype and array.flags.c_contiguous and address % alignment == 0 else None

    def copy(self, source: Array, out: Array) -> None:
        if source.dtype == out.dtype:  # as bits: CuPy converts bfloat16 by way of the host
            source, out = _bits(source), _bits(out)
        out[...] = source

    def take_rows(self, source: Array, rows: Array, out: Array) -> None:
        if source.dtype == out.dtype:  # as bits: no arithmetic is to be had for bfloat16
            source, out = _bits(source), _bits(out)
        out[...] = source[rows]


def _bits(array: Array) -> Array:
    """The array, or, where it has 16 bits, its bits as integers."""
    return array.view(np.int16) if array.dtype.itemsize == 2 else array
