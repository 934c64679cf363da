"""Both GPU backends with nothing behind them: what calls would launch is written down, and can be compiled elsewhere.

Plans, workspaces and launches are those of a device with the properties given; memory is never read or written.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from support import numba_device
from support.cuda_emulation import EmulatedDevice

from rnn_gpu import dispatch
from rnn_gpu.kernels import numba_cuda
from rnn_gpu.kernels.cupy_raw.ahead import compile_ahead
from rnn_gpu.kernels.cupy_raw.backend import CudaBackend
from rnn_gpu.kernels.cupy_raw.device import Kernel, Launch, Properties
from rnn_gpu.kernels.numba_cuda import compilation as numba
from rnn_gpu.kernels.numba_cuda import device, launching, memory
from rnn_gpu.kernels.numba_cuda.device_array import DeviceArray, flat

__all__ = ["H100", "H200", "Wanted", "devices"]

H200 = Properties(
    "NVIDIA H200", (9, 0), 132, 227 * 1024, 228 * 1024, 65536, 16, True, 150_109_880_320, 62_914_560, 1.98e9,
    4_814_304_000_000,
)  # fmt: skip
H100 = Properties(
    "NVIDIA H100 80GB HBM3", (9, 0), 132, 227 * 1024, 228 * 1024, 65536, 16, True, 85_000_000_000, 52_428_800, 1.98e9,
    3_352_320_000_000,
)  # fmt: skip

ADDRESS = 256
"""Of all memory in numba_cuda: nobody looks there."""


class Wanted:
    """The kernels that were to be launched: of cupy_raw by source, of numba_cuda with the types of their arguments."""

    def __init__(self, properties: Properties) -> None:
        self._properties = properties
        self.cupy_raw: dict[str, Kernel] = {}
        self.numba_cuda: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}

    def compile(self, workers: int, say: Callable[[str], None] = print) -> None:
        """Each into the cache on disk, where it is not there; many at a time."""
        say(f"{len(self.cupy_raw)} sources of cupy_raw, {len(self.numba_cuda)} kernels of numba_cuda")
        children = [self._fork(number, workers) for number in range(workers)]
        failed = [number for number, child in enumerate(children) if os.waitpid(child, 0)[1] != 0]
        compile_ahead(self.cupy_raw.values(), self._properties, threads=workers)
        if failed:
            raise RuntimeError(f"{len(failed)} of {workers} processes did not compile all of theirs, as said above")

    def _fork(self, number: int, workers: int) -> int:
        """A process that compiles every so many-th of numba_cuda's, as Numba compiles one at a time."""
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            status = self._compile_some(number, workers)
        finally:
            os._exit(status)

    def _compile_some(self, number: int, workers: int) -> int:
        capability, status = self._properties.capability, 0
        target = numba.target_for(capability)
        with numba_device.pretended(capability):
            for kernel, arguments in list(self.numba_cuda.values())[number::workers]:
                try:
                    numba.binary(kernel, arguments, target)
                except Exception:  # the others are compiled all the same
                    traceback.print_exc()
                    status = 1
        return status


class _CupyDevice(EmulatedDevice):
    """Memory that is asked for and not touched, which costs nothing."""

    def __init__(self, properties: Properties, wanted: Wanted) -> None:
        super().__init__(properties)
        self._wanted = wanted

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        around = np.empty(size + 256, np.uint8)
        start = -around.ctypes.data % 256
        return around[start : start + size].view(dtype).reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return self.empty(shape, dtype)

    def copy(self, source: Any, out: Any) -> None:
        pass

    def take_rows(self, source: Any, rows: Any, out: Any) -> None:
        pass

    def multiply(self, product: Any, a: int, b: int, out: int) -> None:
        pass

    def build(self, kernel: Kernel) -> None:
        self._wanted.cupy_raw.setdefault(kernel.source, kernel)

    def launch(self, launch: Launch, parameters: Any) -> None:
        self.build(launch.kernel)

    def repeat(self, body: Callable[[], None], times: int) -> None:
        if times:
            body()


class _DryBackend(CudaBackend):
    device_kind = "cpu"


class _NumbaMemory:
    """`libraries.Memory`, without any."""

    def empty(self, size: int, dtype: np.dtype[Any]) -> DeviceArray:
        return flat(ADDRESS, size, dtype, None)

    def clear(self, array: DeviceArray) -> None:
        pass

    def upload(self, array: np.ndarray[Any, Any]) -> DeviceArray:
        return DeviceArray(ADDRESS, array.shape, array.strides, array.dtype, None)

    def seen(self, array: Any) -> Any:
        return array

    def dense(self, array: Any, dtype: np.dtype[Any]) -> None:
        return None

    def on_host(self, array: DeviceArray) -> np.ndarray[Any, Any]:
        return np.empty(array.size, array.dtype)


@contextmanager
def devices(properties: Properties) -> Iterator[Wanted]:
    """Within it both backends run, without a device, on NumPy's arrays; results hold anything."""
    wanted = Wanted(properties)
    cupy_device = _CupyDevice(properties, wanted)
    numba_properties = device.Properties(
        properties.name, properties.capability, properties.multiprocessors, properties.cooperative,
        properties.bandwidth, properties.clock, properties.shared_block,
    )  # fmt: skip

    def launched(
        index: int, stream: int, kernel: Any, grid: Any, block: Any, shared: int, arguments: Any, lasts: Any
    ) -> None:
        kinds: list[Any] = [kernel]
        given = (*arguments, *lasts[0])
        launching.flattened(kinds, [], given)
        if tuple(kinds) not in wanted.numba_cuda:
            wanted.numba_cuda[tuple(kinds)] = kernel, launching.signature(given)

    names = [flat(ADDRESS, 1, np.dtype(dtype), None) for dtype in ("int64", "int32", "uint8")]
    replaced = {
        (device, "unavailable"): lambda: None,
        (device, "properties"): lambda index: numba_properties,
        (memory, "launch_each"): launched,
        (memory, "compiled"): lambda *given: SimpleNamespace(registers=64, most_blocks=lambda *given: 10**9),
        (memory, "on_device"): lambda index: nullcontext(),
        (memory, "memory_of"): lambda library, stream: _NumbaMemory(),
        (memory, "dummies"): lambda index, real: (flat(ADDRESS, 1, np.dtype(real), None), *names),
    }
    loaded = {
        "cupy_raw": _DryBackend(lambda library: cupy_device, lambda: None, lambda: [properties.name]),
        "numba_cuda": numba_cuda.BACKEND,
    }
    patches = [mock.patch.object(module, name, made) for (module, name), made in replaced.items()]
    patches.append(mock.patch.dict(dispatch.BACKENDS._loaded, loaded))  # type: ignore[attr-defined]
    for patch in patches:
        patch.start()
    try:
        yield wanted
    finally:
        for patch in reversed(patches):
            patch.stop()
