"""A CUDA device through CuPy: `device_of` gives what the backend asks for in `device.py`.

Memory comes from CuPy's pool, which hands a block that was freed on a stream to the next user of that stream only; work
goes to the stream on which the caller's library works. One `CupyDevice` serves one call.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from rnn_gpu.arrays import ArrayLibrary
from rnn_gpu.cuda_arrays import to_cupy
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw.availability import devices, unavailable
from rnn_gpu.kernels.cupy_raw.cublas import WORKSPACE_BYTES
from rnn_gpu.kernels.cupy_raw.device import Device, Kernel, Properties
from rnn_gpu.kernels.cupy_raw.modules import Modules
from rnn_gpu.kernels.cupy_raw.products import Products

__all__ = ["CupyDevice", "device_of", "devices", "unavailable"]

Array = Any

OLDEST = (8, 0)
"""Compute capability of the oldest devices that have the instructions of the kernels."""

BODIES_A_GRAPH = 16
"""Bodies of `repeat` in one CUDA graph: enough that launching the graph costs little beside them."""

FEWEST_FOR_A_GRAPH = 4 * BODIES_A_GRAPH
"""Below this many, making a graph costs more than it saves."""

SUMS_A_COLUMN, ROWS_A_SUM = 128, 256
"""A column is summed in up to so many pieces, of at least so many rows, at a time: one piece alone leaves most of the
device idle."""

_OUT_OF_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")


def device_of(library: ArrayLibrary) -> Device:
    """The device that arrays of this library lie on, with the stream that its caller works on.

    Raises BackendError for one that is too old.
    """
    return CupyDevice(_shared(library.index), library.stream())


class _Shared:
    """What all calls on one device have in common."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.properties = _properties(index)
        if self.properties.capability < OLDEST:
            needed = "sm_{}{}".format(*OLDEST)
            raise BackendError(f"{self.properties.name} is {self.properties.arch}; the kernels need {needed} or later")
        self.modules = Modules(self.properties)
        self.products = Products()


@cache
def _shared(index: int) -> _Shared:
    return _Shared(index)


class CupyDevice:
    """One device and one stream, see `Device`."""

    def __init__(self, shared: _Shared, stream: int) -> None:
        self._cupy = importlib.import_module("cupy")
        self._shared = shared
        self._stream = _stream(stream)
        self._workspace = 0
        self.properties = shared.properties

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """See `Device.active`."""
        try:
            with self._cupy.cuda.Device(self._shared.index), self._stream:
                yield
        except RuntimeError as error:
            if not str(error).startswith(_OUT_OF_MEMORY):
                raise
            raise MemoryError(f"{self.properties.name}: {error}") from error

    def adopt(self, array: Array) -> Array:
        return to_cupy(array)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return self._cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return self._cupy.zeros(shape, dtype)

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        return self._cupy.array(array, order="C")

    def copy(self, source: Array, out: Array) -> None:
        out[...] = source

    def take_rows(self, source: Array, rows: Array, out: Array) -> None:
        if source.dtype == out.dtype:  # as bits: no arithmetic is to be had for bfloat16
            source, out = _bits(source), _bits(out)
        out[...] = source[rows]

    def put_rows(self, source: Array, rows: Array, out: Array) -> None:
        if source.dtype != out.dtype:
            source = source.astype(out.dtype)
        _bits(out)[rows] = _bits(source)

    def column_sums(self, source: Array, out: Array) -> None:
        if source.dtype.itemsize == 2:
            source = source.astype(np.float32)
        count, columns = source.shape
        pieces = min(SUMS_A_COLUMN, count // ROWS_A_SUM)
        if pieces > 1:
            rows = count // pieces
            whole = source[: pieces * rows].reshape(pieces, rows, columns).sum(axis=1, dtype=np.float64)
            total = whole.sum(axis=0) + source[pieces * rows :].sum(axis=0, dtype=np.float64)
        else:
            total = source.sum(axis=0, dtype=np.float64)
        out[...] = total

    def matmul(self, a: Array, b: Array, out: Array, *, accumulate: bool = False, tf32: bool = False) -> None:
        products = self._shared.products
        products.queue_on(self._cupy.cuda.get_current_stream().ptr, self._workspace)
        products.matmul(a, b, out, accumulate=accumulate, tf32=tf32)

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def build(self, kernel: Kernel) -> None:
        self._shared.modules.load(kernel)

    def launch(
        self, kernel: Kernel, *, grid: int, block: int, shared: int, parameters: np.void, cluster: int = 1,
        cooperative: bool = False,
    ) -> None:  # fmt: skip
        stream = self._cupy.cuda.get_current_stream().ptr  # not always the caller's: `repeat` has one of its own
        self._shared.modules.launch(
            kernel, stream, grid=grid, block=block, shared=shared, parameters=parameters, cluster=cluster,
            cooperative=cooperative,
        )  # fmt: skip

    def repeat(self, body: Callable[[], None], times: int) -> None:
        if times < FEWEST_FOR_A_GRAPH:
            for _ in range(times):
                body()
            return
        body()  # loads what it launches, which a capture does not allow
        workspace = self.empty((WORKSPACE_BYTES,), np.dtype(np.uint8))  # the caller's stream reuses it after the graphs
        graph = self._captured(body, BODIES_A_GRAPH, self.address(workspace))
        graphs, rest = divmod(times - 1, BODIES_A_GRAPH)
        for _ in range(graphs):
            graph.launch(self._stream)
        for _ in range(rest):
            body()

    def _captured(self, body: Callable[[], None], times: int, workspace: int) -> Any:
        """A CUDA graph of so many bodies. Captured on a stream of its own: the default stream cannot be captured.

        workspace: address of what products use in it.
        """
        stream = self._cupy.cuda.Stream(non_blocking=True)
        self._workspace = workspace
        with stream:
            stream.begin_capture()
            try:
                for _ in range(times):
                    body()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # that the capture is broken; the reason for it is raised
                    stream.end_capture()
                raise
            finally:
                self._workspace = 0
            return stream.end_capture()


class _Stream:
    """A stream of another library, as CuPy takes it in."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


def _stream(address: int) -> Any:
    stream = importlib.import_module("cupy").cuda.Stream
    return stream.from_external(_Stream(address)) if address else stream.null


def _bits(array: Array) -> Array:
    """The array, or, where it has 16 bits, its bits as integers."""
    return array.view(np.int16) if array.dtype.itemsize == 2 else array


def _properties(index: int) -> Properties:
    runtime = importlib.import_module("cupy").cuda.runtime

    def attribute(name: str) -> int:
        return int(runtime.deviceGetAttribute(getattr(runtime, f"cudaDevAttr{name}"), index))

    told = runtime.getDeviceProperties(index)
    capability = (int(told["major"]), int(told["minor"]))
    return Properties(
        name=told["name"].decode(),
        capability=capability,
        multiprocessors=attribute("MultiProcessorCount"),
        shared_block=attribute("MaxSharedMemoryPerBlockOptin"),
        shared_multiprocessor=attribute("MaxSharedMemoryPerMultiprocessor"),
        registers_multiprocessor=attribute("MaxRegistersPerMultiprocessor"),
        max_cluster=largest_cluster(capability),
        cooperative=bool(attribute("CooperativeLaunch")),
        memory=int(told["totalGlobalMem"]),
        l2=attribute("L2CacheSize"),
        clock=1e3 * attribute("ClockRate"),
        bandwidth=2e3 * attribute("MemoryClockRate") * attribute("GlobalMemoryBusWidth") / 8,
    )


def largest_cluster(capability: tuple[int, int]) -> int:
    """Blocks in a device's largest cluster: 16, of which 8 are portable, on Hopper and data-centre Blackwell."""
    if capability < (9, 0):
        return 1
    return 16 if capability[0] in (9, 10) else 8
