"""Whose memory a call works in: its caller's library's, so that arrays come and go as that library's own.

CuPy's pool and torch's allocator hand a block that was freed on a stream to the next user of that stream; a `Pool` does
the same for callers of Numba, and of NumPy, whose arrays are copied. In the simulator, Numba's simulated arrays.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from functools import cache
from typing import Any, Protocol

import numpy as np
from numba import cuda

from rnn_gpu import cuda_arrays
from rnn_gpu.arrays import ArrayLibrary, name_of
from rnn_gpu.kernels.numba_cuda.device_array import (
    BFLOAT16_BITS,
    DeviceArray,
    dense_strides,
    flat,
    of_cupy,
    of_numba,
    of_torch,
)
from rnn_gpu.kernels.numba_cuda.jit import SIMULATED
from rnn_gpu.kernels.numba_cuda.pool import Pool

if not SIMULATED:
    from cuda.bindings import driver

    from rnn_gpu.kernels.numba_cuda.launching import checked

__all__ = ["Memory", "dummies", "is_out_of_memory", "memory_of"]

Array = Any


class Memory(Protocol):
    """Makes and reads arrays on one device and stream."""

    def empty(self, size: int, dtype: np.dtype[Any]) -> Array:
        """A flat array that holds anything."""

    def clear(self, array: Array) -> None:
        """array[...] = 0, of what `empty` made, or a part of it."""

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        """A copy of a host array without gaps."""

    def seen(self, array: Array) -> Array:
        """A caller's array on the device, or one of ours, as kernels take it."""

    def dense(self, array: Array, dtype: np.dtype[Any]) -> Array | None:
        """A caller's array on the device, of that dtype, as a flat one; None where it has gaps, or may have some."""

    def given(self, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """What `empty` made, as the caller's library has it."""

    def on_host(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory."""


def memory_of(library: ArrayLibrary, stream: int) -> Memory:
    """Memory for the caller of that library, on the stream with that address."""
    if SIMULATED:
        return _SimulatedMemory()
    kind = {"cupy": _CupyMemory, "torch": _TorchMemory}.get(library.name, _NumbaMemory)
    return kind(library.index, stream)


@cache
def dummies(device: int, real: str) -> tuple[Array, ...]:
    """Arrays of one element on that device, the current one, for kernels that take one and will not read it.

    One of the working type, and one each of int64, int32 and uint8.
    """
    memory = _SimulatedMemory() if SIMULATED else _NumbaMemory(device, 0)
    return tuple(memory.upload(np.zeros(1, dtype)) for dtype in (real, "int64", "int32", "uint8"))


class _SimulatedMemory:
    def empty(self, size: int, dtype: np.dtype[Any]) -> Array:
        return cuda.device_array(size, dtype)

    def clear(self, array: Array) -> None:
        array[:] = 0

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        return cuda.to_device(array)

    def seen(self, array: Array) -> Array:
        return array.view(BFLOAT16_BITS) if name_of(array.dtype) == "bfloat16" else cuda_arrays.to_numba(array)

    def dense(self, array: Array, dtype: np.dtype[Any]) -> Array | None:
        return None

    def given(self, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return array.reshape(shape).view(dtype)

    def on_host(self, array: Array) -> np.ndarray[Any, Any]:
        host: np.ndarray[Any, Any] = array.copy_to_host()
        return host


class _DeviceMemory(ABC):
    """What all have in common on a device."""

    def __init__(self, device: int, stream: int) -> None:
        self._device, self._stream = device, stream

    def empty(self, size: int, dtype: np.dtype[Any]) -> DeviceArray:
        address, owner = self._allocate(size * dtype.itemsize)
        return flat(address, size, dtype, owner)

    @abstractmethod
    def _allocate(self, size: int) -> tuple[int, Any]:
        """The address of that many bytes, and what keeps them."""

    def clear(self, array: DeviceArray) -> None:
        size, stream = array.size * array.dtype.itemsize, driver.CUstream(self._stream)
        if size:
            checked("cuMemsetD8Async", driver.cuMemsetD8Async(array.address, 0, size, stream))

    @abstractmethod
    def given(self, array: DeviceArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """See `Memory`."""

    def upload(self, array: np.ndarray[Any, Any]) -> DeviceArray:
        address, owner = self._allocate(array.nbytes)
        source, stream = array.ctypes.data, driver.CUstream(self._stream)
        checked("cuMemcpyHtoDAsync", driver.cuMemcpyHtoDAsync(address, source, array.nbytes, stream))
        return DeviceArray(address, array.shape, array.strides, array.dtype, owner)

    def seen(self, array: Array) -> DeviceArray:
        return array if type(array) is DeviceArray else self._of_caller(array)

    def dense(self, array: Array, dtype: np.dtype[Any]) -> DeviceArray | None:
        return None

    @abstractmethod
    def _of_caller(self, array: Array) -> DeviceArray:
        """An array of the caller's library on the same memory."""

    def on_host(self, array: DeviceArray) -> np.ndarray[Any, Any]:
        host = np.empty(array.shape, array.dtype)
        if host.size:
            stream = driver.CUstream(self._stream)
            checked("cuMemcpyDtoHAsync", driver.cuMemcpyDtoHAsync(host.ctypes.data, array.address, host.nbytes, stream))
            checked("cuStreamSynchronize", driver.cuStreamSynchronize(stream))
        return host


class _CupyMemory(_DeviceMemory):
    def _of_caller(self, array: Array) -> DeviceArray:
        return of_cupy(array)

    def dense(self, array: Array, dtype: np.dtype[Any]) -> DeviceArray | None:
        return flat(array.data.ptr, array.size, dtype, array) if array.flags.c_contiguous else None

    def _allocate(self, size: int) -> tuple[int, Any]:
        pointer = sys.modules["cupy"].cuda.alloc(size)
        return pointer.ptr, pointer

    def given(self, array: DeviceArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        pointer = array.owner
        return sys.modules["cupy"].ndarray(shape, dtype, memptr=pointer + (array.address - pointer.ptr))


class _TorchMemory(_DeviceMemory):
    def _of_caller(self, array: Array) -> DeviceArray:
        return of_torch(array)

    def dense(self, array: Array, dtype: np.dtype[Any]) -> DeviceArray | None:
        return flat(array.data_ptr(), array.numel(), dtype, array) if array.is_contiguous() else None

    def _allocate(self, size: int) -> tuple[int, Any]:
        torch = sys.modules["torch"]
        owner = torch.empty(size, dtype=torch.uint8, device=torch.device("cuda", self._device))
        return owner.data_ptr(), owner

    def given(self, array: DeviceArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        torch, owner = sys.modules["torch"], array.owner
        first = (array.address - owner.data_ptr()) // dtype.itemsize
        out = torch.empty(0, dtype=getattr(torch, name_of(dtype)), device=owner.device)
        return out.set_(owner.untyped_storage(), first, shape)  # no view: autograd allows no writing to those


class _NumbaMemory(_DeviceMemory):
    def _of_caller(self, array: Array) -> DeviceArray:
        return of_numba(array)

    def _allocate(self, size: int) -> tuple[int, Any]:
        piece = _pool(self._device).take(size, self._stream)
        return piece.address, piece

    def given(self, array: DeviceArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        pointer = driver.CUdeviceptr(array.address)
        size = array.size * array.dtype.itemsize
        memory = cuda.MemoryPointer(cuda.current_context(), pointer, size, owner=array.owner)
        strides = dense_strides(shape, dtype.itemsize)
        return cuda.cudadrv.devicearray.DeviceNDArray(shape, strides, dtype, gpu_data=memory)


@cache
def _pool(device: int) -> Pool:
    return Pool(cuda.current_context().memalloc, is_out_of_memory)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the driver or the caller's library says that there is no memory left."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OutOfMemoryError" in names or ("CudaAPIError" in names and "OUT_OF_MEMORY" in str(error))
