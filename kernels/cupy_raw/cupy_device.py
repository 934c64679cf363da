"""A CUDA device through CuPy: `device_of` gives what the backend asks for in `device.py`.

Memory comes from the allocator of the caller's library, and work goes to the stream on which that library works. One
`CupyDevice` serves one call.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np

from rnn_gpu.arrays import ArrayLibrary
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw.availability import devices, unavailable
from rnn_gpu.kernels.cupy_raw.cublas import WORKSPACE_BYTES
from rnn_gpu.kernels.cupy_raw.device import Device, Kernel, Launch, Memory, Product, Properties
from rnn_gpu.kernels.cupy_raw.modules import Modules
from rnn_gpu.kernels.cupy_raw.products import Products

__all__ = ["CupyDevice", "device_of", "devices", "unavailable"]

OLDEST = (8, 0)
"""Compute capability of the oldest devices that have the instructions of the kernels."""

MOST_BODIES_A_GRAPH = 16
"""Of `repeat`: more are recorded as slowly as they would be issued."""

ISSUED_US, GRAPH_US, MADE_US = 90.0, 6.0, 150.0
"""About what the host takes to issue a body of `repeat`, to launch a graph of some, and to make one, besides issuing
its bodies."""

_OUT_OF_MEMORY = (
    "cudaErrorMemoryAllocation",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA out of memory",
)


def device_of(library: ArrayLibrary) -> Device:
    """The device that arrays of this library lie on, with the stream that its caller works on.

    Raises BackendError for one that is too old.
    """
    return CupyDevice(_shared(library.index), _memory(library.name, library.device), library)


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
        self.cuda = importlib.import_module("cupy").cuda


@cache
def _shared(index: int) -> _Shared:
    return _Shared(index)


@cache
def _memory(library: str, device: str) -> Memory:
    """Where arrays of this library come from. Memory has no state: calls on any stream and thread share it."""
    if library == "torch":
        from rnn_gpu.kernels.cupy_raw.torch_memory import TorchMemory  # noqa: PLC0415  (imports torch)

        return TorchMemory(device)
    from rnn_gpu.kernels.cupy_raw.cupy_memory import CupyMemory  # noqa: PLC0415  (imports CuPy)

    return CupyMemory()


class CupyDevice:
    """One device and one stream, see `Device`."""

    def __init__(self, shared: _Shared, memory: Memory, library: ArrayLibrary) -> None:
        self.properties, self.memory = shared.properties, memory
        self._shared, self._library = shared, library
        self._stream = self._workspace = self._callers = 0

    def active(self) -> CupyDevice:
        """See `Device.active`."""
        return self

    def __enter__(self) -> None:
        cuda = self._shared.cuda
        self._stream = self._library.stream()
        self._callers = cuda.runtime.getDevice()
        cuda.runtime.setDevice(self._shared.index)  # also where it is the same: a new thread has no context yet
        if self._library.name == "numba":  # its arrays come from CuPy's pool, which asks for CuPy's stream
            cuda.Stream.null.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *trace: object) -> None:
        cuda = self._shared.cuda
        if self._library.name == "numba":
            cuda.Stream.null.__exit__(kind, error, *trace)
        if self._callers != self._shared.index:
            cuda.runtime.setDevice(self._callers)
        if isinstance(error, RuntimeError) and str(error).startswith(_OUT_OF_MEMORY):
            raise MemoryError(f"{self.properties.name}: {error}") from error

    def multiply(self, product: Product, a: int, b: int, out: int) -> None:
        if product.a.columns:
            self._shared.products.multiply(product, a, b, out, self._stream, self._workspace)
            return
        rows, columns, lead, dtype, *_ = product.out
        assert lead == columns
        if rows and columns:
            size = rows * columns * dtype.itemsize
            self._shared.cuda.runtime.memsetAsync(out + product.out.begin, 0, size, self._stream)

    def build(self, kernel: Kernel) -> None:
        self._shared.modules.load(kernel)

    def launch(self, launch: Launch, parameters: ctypes.Structure) -> None:
        self._shared.modules.launch(launch, self._stream, parameters)

    def repeat(self, body: Callable[[], None], times: int) -> None:
        bodies = bodies_a_graph(times)
        if not bodies:
            for _ in range(times):
                body()
            return
        body()  # loads what it launches, which a capture does not allow
        workspace = self.memory.empty((WORKSPACE_BYTES,), np.dtype(np.uint8))  # the stream reuses it after the graphs
        graph = self._captured(body, bodies, self.memory.address(workspace))
        graphs, rest = divmod(times - 1, bodies)
        streams = self._shared.cuda.Stream
        stream = streams.from_external(_Stream(self._stream)) if self._stream else streams.null
        for _ in range(graphs):
            graph.launch(stream)
        for _ in range(rest):
            body()

    def _captured(self, body: Callable[[], None], times: int, workspace: int) -> Any:
        """A CUDA graph of so many bodies. Captured on a stream of its own: the default stream cannot be captured.

        workspace: address of what products use in it.
        """
        stream = self._shared.cuda.Stream(non_blocking=True)
        callers = self._stream
        self._stream, self._workspace = stream.ptr, workspace
        stream.begin_capture()
        try:
            for _ in range(times):
                body()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # that the capture is broken; the reason for it is raised
                stream.end_capture()
            raise
        finally:
            self._stream, self._workspace = callers, 0
        return stream.end_capture()


@lru_cache(maxsize=1024)
def bodies_a_graph(times: int) -> int:
    """Of so many bodies in all, those to be in one graph for the host to be done soonest; 0: no graph.

    One is issued first and those that are left over after whole graphs at the end, each by itself.
    """
    costs = {0: times * ISSUED_US}
    for bodies in range(1, min(MOST_BODIES_A_GRAPH, times - 1) + 1):
        graphs, rest = divmod(times - 1, bodies)
        costs[bodies] = (1 + bodies + rest) * ISSUED_US + graphs * GRAPH_US + MADE_US
    return min(costs, key=lambda bodies: costs[bodies])


class _Stream:
    """A stream of another library, as CuPy takes it in."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


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
