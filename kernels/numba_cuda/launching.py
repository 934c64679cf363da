"""Launches on a device: kernels compiled once for what they are given, and handed to the driver as numbers.

Numba's own way from a call to the driver takes 60 to 200 microseconds for the arguments of a sequence kernel, more than
many a sequence takes to run. Here a call of the driver remains, of a few microseconds.

This module alone knows how numba-cuda 0.30 passes arguments, which it documents nowhere; pyproject.toml admits no other
version. A kernel's parameters, each of eight bytes as all integers here are:

    an array    meminfo and parent, always 0; size; itemsize; address; shape; strides in bytes
    an integer  itself, int64
    a tuple     its fields, one behind the other
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from cuda.bindings import driver
from numba import cuda, types
from numba.cuda.cudadrv.driver import CudaAPIError

from rnn_gpu.kernels.numba_cuda import compilation, device
from rnn_gpu.kernels.numba_cuda.device_array import DeviceArray
from rnn_gpu.kernels.numba_cuda.jit import Kernel

__all__ = ["Compiled", "checked", "compiled", "flattened", "launch_each", "on_device", "signature"]

_STATIC_LIMIT = 48 * 1024
"""Bytes of shared memory that a kernel may have without being allowed to have more."""

_EIGHT = 8
"""Bytes of a parameter."""

_SUCCESS = driver.CUresult.CUDA_SUCCESS


def on_device(index: int) -> AbstractContextManager[None]:
    """Work with the device of that number: nothing to be done where its context is the current one."""
    context = _CONTEXTS.get(index)
    if context is not None and int(checked("cuCtxGetCurrent", driver.cuCtxGetCurrent())) == context:
        return nullcontext()
    return _entered(index)


_CONTEXTS: dict[int, int] = {}
"""By device, the address of Numba's context, which is the primary one."""


@contextmanager
def _entered(index: int) -> Iterator[None]:
    with cuda.gpus[index]:
        _CONTEXTS[index] = int(checked("cuCtxGetCurrent", driver.cuCtxGetCurrent()))
        yield


def flattened(kinds: list[Any], words: list[int], arguments: Iterable[Any]) -> None:
    """Append what each argument is compiled as, and the numbers that it is passed as.

    An argument is an array, an integer, or a tuple of a class of its own, all of arrays or all of integers.
    """
    for argument in arguments:
        if type(argument) is DeviceArray:
            kinds.append(argument.kind)
            words += argument.words
        elif isinstance(argument, int):
            kinds.append(int)
            words.append(argument)
        elif isinstance(argument[0], int):
            kinds.append(type(argument))
            words += argument
        else:
            kinds.append(type(argument))
            for array in argument:
                kinds.append(array.kind)
                words += array.words


def signature(arguments: Iterable[Any]) -> tuple[Any, ...]:
    """Numba's types of the arguments."""
    return tuple(_type(argument) for argument in arguments)


def _type(argument: Any) -> Any:
    if isinstance(argument, int):
        return types.int64
    if isinstance(argument, tuple):
        return types.BaseTuple.from_types(signature(argument), type(argument))
    kind = argument.kind
    return _array_type(kind[0], int(kind[1]), kind[2])


@cache
def _array_type(char: str, axes: int, layout: str) -> Any:
    scalar = types.float16 if char == "e" else getattr(types, np.dtype(char).name)
    return types.Array(scalar, axes, layout)


def launch_each(
    index: int, stream: int, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], shared: int,
    arguments: Sequence[Any], lasts: Sequence[tuple[int, ...]],
) -> None:  # fmt: skip
    """Launch the kernel for each of `lasts`, the integers that follow the arguments."""
    found, words = _found(index, kernel, (*arguments, *lasts[0]))
    found.launch_each(stream, grid, block, shared, words, lasts)


def compiled(index: int, kernel: Kernel, arguments: Sequence[Any]) -> Compiled:
    """The kernel, compiled for arguments like these and loaded."""
    return _found(index, kernel, arguments)[0]


def _found(index: int, kernel: Kernel, arguments: Sequence[Any]) -> tuple[Compiled, list[int]]:
    kinds: list[Any] = [index]
    words: list[int] = []
    flattened(kinds, words, arguments)
    of_kernel = _COMPILED.get(kernel)
    if of_kernel is None:
        of_kernel = _COMPILED.setdefault(kernel, {})
    key = tuple(kinds)
    found = of_kernel.get(key)
    if found is None:
        with _COMPILING:
            found = of_kernel.get(key)
            if found is None:
                found = of_kernel[key] = Compiled(index, kernel, arguments, len(words))
    return found, words


_COMPILED: WeakKeyDictionary[Kernel, dict[tuple[Any, ...], Compiled]] = WeakKeyDictionary()
"""By kernel, device and the kinds of its arguments; for as long as somebody has the kernel. Its code stays on the
device: nothing is unloaded that is still to run."""

_COMPILING = threading.RLock()
"""Held while a kernel is compiled and loaded: each once, as what it is allowed is remembered with it."""


class Compiled:
    """A kernel that is loaded on a device, and room for its parameters."""

    def __init__(self, index: int, kernel: Kernel, arguments: Sequence[Any], n_words: int) -> None:
        properties = device.properties(index)
        code = compilation.binary(kernel, signature(arguments), compilation.target_for(properties.capability))
        library = checked("cuLibraryLoadData", driver.cuLibraryLoadData(code, [], [], 0, [], [], 0))
        self._kernel = checked("cuLibraryGetKernel", driver.cuLibraryGetKernel(library, compilation.ENTRY.encode()))
        self._device, self._allowed = driver.CUdevice(index), _STATIC_LIMIT
        self._multiprocessors, self._cooperative = properties.multiprocessors, kernel.cooperative
        self._function = driver.CUfunction(int(self._kernel))  # the driver launches a kernel in a function's place
        registers = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NUM_REGS
        attribute = driver.cuKernelGetAttribute(registers, self._kernel, self._device)
        self.registers = int(checked("cuKernelGetAttribute", attribute))
        self._values = (ctypes.c_int64 * n_words)()
        first = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * n_words)(*(first + _EIGHT * k for k in range(n_words)))
        self._parameters = ctypes.addressof(self._pointers)
        self._pack = struct.Struct(f"{n_words}q").pack_into
        self._lock = threading.RLock()
        self._most: dict[tuple[int, int], int] = {}

    def launch_each(
        self, stream: int, grid: tuple[int, ...], block: tuple[int, ...], shared: int, words: Sequence[int],
        lasts: Sequence[tuple[int, ...]],
    ) -> None:  # fmt: skip
        """Launch with the parameters `words`, of which the last ones are each of `lasts` in turn."""
        x, y, z = (*grid, 1, 1)[:3]
        threads = (*block, 1, 1)[:3]
        at, queue, parameters = len(words) - len(lasts[0]), driver.CUstream(stream), self._parameters
        with self._lock:  # the driver copies the parameters before a launch returns
            self._allow(shared)
            self._pack(self._values, 0, *words)
            for last in lasts:
                if last:
                    struct.pack_into(f"{len(last)}q", self._values, _EIGHT * at, *last)
                if self._cooperative:
                    returned = driver.cuLaunchCooperativeKernel(
                        self._function, x, y, z, *threads, shared, queue, parameters
                    )
                else:
                    returned = driver.cuLaunchKernel(self._function, x, y, z, *threads, shared, queue, parameters, 0)
                if returned[0] != _SUCCESS:
                    checked("the launch of a kernel", returned)

    def most_blocks(self, threads: int, shared: int) -> int:
        """How many of its blocks the device can hold at once."""
        key = threads, shared
        if key not in self._most:
            with self._lock:
                self._allow(shared)
                blocks = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(self._function, threads, shared)
                on_each = checked("cuOccupancyMaxActiveBlocksPerMultiprocessor", blocks)
                self._most[key] = self._multiprocessors * int(on_each)
        return self._most[key]

    def _allow(self, shared: int) -> None:
        """Let the kernel have that much shared memory, once. Called with the lock held."""
        if shared <= self._allowed:
            return
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        checked("cuKernelSetAttribute", driver.cuKernelSetAttribute(attribute, shared, self._kernel, self._device))
        self._allowed = shared


def checked(name: str, returned: tuple[Any, ...]) -> Any:
    """What a call of the driver gives. Raises Numba's CudaAPIError where it failed."""
    status, *found = returned
    if status != _SUCCESS:
        raise CudaAPIError(status, f"{name} results in {status.name}")
    return found[0] if found else None
