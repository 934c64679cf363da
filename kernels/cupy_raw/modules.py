"""Compiled kernels on one device, ready to launch: loaded once, checked against what the device can hold, launched.

Launches go to the driver directly. CuPy's own cooperative launch makes a grid smaller until it fits, in silence, and a
kernel that waits for all its blocks must never be given that: here what does not fit is refused.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw import compilation
from rnn_gpu.kernels.cupy_raw.device import Kernel, Launch, Properties

__all__ = ["Modules", "Resident", "check_limits", "check_resident"]

_MAX_DYNAMIC_SHARED, _NON_PORTABLE_CLUSTER = 8, 14
"""CUfunction_attribute."""

SHARED_WITHOUT_ASKING = 48 << 10
PORTABLE_CLUSTER = 8

_Pointers = ctypes.c_void_p * 1
"""To each of a kernel's arguments, of which there is one."""

_DOES_NOT_FIT = (
    "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    "CUDA_ERROR_INVALID_CLUSTER_SIZE",
)


@dataclass(frozen=True)
class Resident:
    """How many blocks of a kernel one multiprocessor, of so many, holds at a time."""

    a_multiprocessor: int
    multiprocessors: int

    @property
    def blocks(self) -> int:
        return self.a_multiprocessor * self.multiprocessors


def check_limits(entry: str, properties: Properties, *, grid: int, shared: int, cluster: int) -> None:
    """Raise BackendError, saying what is too large, where the device has not what each block or cluster needs."""
    device = f"{properties.name} ({properties.arch})"
    if shared > properties.shared_block:
        has = f"{device} has {properties.shared_block}"
        raise BackendError(f"{entry} needs {shared} bytes of shared memory a block; {has}")
    if cluster > properties.max_cluster:
        has = (
            f"{device} has them up to {properties.max_cluster}" if properties.max_cluster > 1 else f"{device} has none"
        )
        raise BackendError(f"{entry} needs clusters of {cluster} blocks; {has}")
    if grid % cluster:
        raise BackendError(f"{entry}: {grid} blocks are no whole number of clusters of {cluster}")


def check_resident(entry: str, properties: Properties, grid: int, resident: Resident) -> None:
    """Raise BackendError where not all blocks, which wait for one another, would run at once."""
    device = f"{properties.name} ({properties.arch})"
    if not properties.cooperative:
        raise BackendError(f"{entry} needs all its blocks to run at once; {device} has no cooperative launch")
    if grid > resident.blocks:
        raise BackendError(
            f"{entry}: {grid} blocks must run at once, and {device} holds {resident.blocks} of them, "
            f"{resident.a_multiprocessor} on each of {resident.multiprocessors} multiprocessors"
        )


@dataclass
class _Function:
    """A loaded kernel. shared, cluster: how much of them it may have so far; resident: by (threads, shared memory)."""

    address: int
    owner: Any
    shared: int = SHARED_WITHOUT_ASKING
    cluster: int = PORTABLE_CLUSTER
    resident: dict[tuple[int, int], Resident] = field(default_factory=dict)


class Modules:
    """The kernels loaded on one device. Methods are called with that device current."""

    def __init__(self, properties: Properties) -> None:
        self._properties = properties
        self._modules: dict[str, Any] = {}
        self._functions: dict[Kernel, _Function] = {}
        self._ready: dict[Launch, int] = {}
        self._loading = threading.RLock()

    def load(self, kernel: Kernel) -> _Function:
        """The kernel, compiled and loaded at the first call. Raises BackendError where it does not compile."""
        found = self._functions.get(kernel)
        if found is not None:
            return found
        with self._loading:
            if kernel.source not in self._modules:
                target = compilation.target_for(self._properties.capability)
                module = importlib.import_module("cupy.cuda.function").Module()
                module.load(compilation.binary(kernel, target))
                self._modules[kernel.source] = module
            loaded = self._modules[kernel.source].get_function(kernel.entry)
            return self._functions.setdefault(kernel, _Function(loaded.ptr, loaded))

    def launch(self, launch: Launch, stream: int, parameters: ctypes.Structure) -> None:
        """As `Device.launch`, on the stream of this address."""
        driver, function = _driver(), self._ready.get(launch)
        if function is None:
            with self._loading:
                function = self._ready[launch] = self._made_ready(launch)
        pointers = _Pointers(ctypes.addressof(parameters))
        shape = (launch.grid, 1, 1, launch.block, 1, 1, launch.shared, stream, ctypes.addressof(pointers))
        try:
            if launch.cooperative:
                driver.launchCooperativeKernel(function, *shape)
            else:
                driver.launchKernel(function, *shape, 0)
        except driver.CUDADriverError as error:
            if str(error).partition(":")[0] not in _DOES_NOT_FIT:
                raise
            size = (
                f"{launch.grid} blocks of {launch.block} threads and {launch.shared} bytes of shared memory, "
                f"clusters of {launch.cluster}"
            )
            entry = launch.kernel.entry
            raise BackendError(f"{entry} does not fit on {self._properties.name}, {size}: {error}") from error

    def _made_ready(self, launch: Launch) -> int:
        """The address of the kernel's function, once this launch is known to fit and the function has all it needs."""
        kernel, grid, block, shared, cluster, cooperative = launch
        driver, function = _driver(), self.load(kernel)
        check_limits(kernel.entry, self._properties, grid=grid, shared=shared, cluster=cluster)
        if shared > function.shared:
            driver.funcSetAttribute(function.address, _MAX_DYNAMIC_SHARED, shared)
            function.shared = shared
        if cluster > function.cluster:
            driver.funcSetAttribute(function.address, _NON_PORTABLE_CLUSTER, 1)
            function.cluster = cluster
        if cooperative:
            check_resident(kernel.entry, self._properties, grid, self._resident(function, block, shared))
        return function.address

    def _resident(self, function: _Function, block: int, shared: int) -> Resident:
        key = (block, shared)
        if key not in function.resident:
            count = _driver().occupancyMaxActiveBlocksPerMultiprocessor(function.address, block, shared)
            function.resident[key] = Resident(count, self._properties.multiprocessors)
        return function.resident[key]


@cache
def _driver() -> Any:
    return importlib.import_module("cupy_backends.cuda.api.driver")
