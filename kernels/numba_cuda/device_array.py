"""Arrays on a device as kernels are launched with them: numbers, and whoever owns the memory; no object of Numba's.

Numba's own device arrays take tens of microseconds to make and to pass on, a call has some twenty arrays.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from rnn_gpu.arrays import dtype_named, name_of

__all__ = ["BFLOAT16_BITS", "DeviceArray", "dense_strides", "flat", "of_cupy", "of_numba", "of_torch"]

BFLOAT16_BITS = np.dtype(np.uint16)
"""What bfloat16 is seen as: Numba has no arrays of it."""


class DeviceArray:
    """An array on a device. address and strides in bytes; owner: keeps the memory.

    words: the numbers that Numba passes to a kernel for it, see `launching`. kind: what kernels are compiled for:
    dtype, number of axes, and C or A for rows without and with gaps; the same for arrays that are alike.
    """

    __slots__ = ("address", "dtype", "kind", "owner", "shape", "size", "strides", "words")

    def __init__(
        self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any], owner: Any
    ) -> None:
        itemsize = dtype.itemsize
        self.address, self.shape, self.strides, self.dtype, self.owner = address, shape, strides, dtype, owner
        if len(shape) == 1:
            self.size = size = shape[0]
            dense = strides[0] == itemsize
        else:
            self.size = size = math.prod(shape)
            dense = strides == dense_strides(shape, itemsize)
        self.kind = _kind(dtype.char, len(shape), dense)
        self.words = (0, 0, size, itemsize, address, *shape, *strides)

    def is_c_contiguous(self) -> bool:
        return self.kind[-1] == "C"

    def __getitem__(self, part: slice) -> DeviceArray:
        """A part of a flat array."""
        first, last, _ = part.indices(self.size)
        return flat(self.address + first * self.dtype.itemsize, max(last - first, 0), self.dtype, self.owner)

    def reshape(self, size: int) -> DeviceArray:
        """Flat; `size` is -1. Only of one without gaps."""
        assert size == -1, "made flat, and nothing else"
        assert self.is_c_contiguous(), "an array with gaps is not flat"
        return flat(self.address, self.size, self.dtype, self.owner)

    def view(self, dtype: Any) -> DeviceArray:
        """The same bits as another dtype of that size."""
        wanted = np.dtype(dtype)
        assert wanted.itemsize == self.dtype.itemsize, "of another size"
        return DeviceArray(self.address, self.shape, self.strides, wanted, self.owner)


def flat(address: int, size: int, dtype: np.dtype[Any], owner: Any) -> DeviceArray:
    """An array of one axis, without gaps."""
    return DeviceArray(address, (size,), (dtype.itemsize,), dtype, owner)


def of_cupy(array: Any) -> DeviceArray:
    """An array of CuPy on the same memory. bfloat16 is seen as its bits, here and below."""
    return _seen(array.data.ptr, array.shape, array.strides, array.flags.c_contiguous, _dtype(array.dtype), array)


def of_torch(tensor: Any) -> DeviceArray:
    """A tensor on the same memory."""
    dtype = _dtype(tensor.dtype)
    strides = tuple([step * dtype.itemsize for step in tensor.stride()])
    return _seen(tensor.data_ptr(), tuple(tensor.shape), strides, tensor.is_contiguous(), dtype, tensor)


def of_numba(array: Any) -> DeviceArray:
    """A device array of Numba on the same memory."""
    address = array.device_ctypes_pointer.value or 0
    return _seen(address, array.shape, array.strides, array.is_c_contiguous(), _dtype(array.dtype), array)


def _seen(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], dense: bool, dtype: np.dtype[Any], owner: Any
) -> DeviceArray:
    """Libraries may give any stride to an axis of length 1."""
    return DeviceArray(address, shape, dense_strides(shape, dtype.itemsize) if dense else strides, dtype, owner)


@cache
def _dtype(dtype: Any) -> np.dtype[Any]:
    """What a dtype of any library is seen as."""
    name = name_of(dtype)
    return BFLOAT16_BITS if name == "bfloat16" else dtype_named(name)


@cache
def _kind(char: str, axes: int, dense: bool) -> str:
    return f"{char}{axes}{'C' if dense else 'A'}"


def dense_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of an array without gaps."""
    strides = []
    for length in reversed(shape):
        strides.append(itemsize)
        itemsize *= length
    return tuple(reversed(strides))
