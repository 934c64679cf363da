"""What the benchmarks ask of a device: numbers on it, a clock on it, and its memory. CuPy provides them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.arrays import library_of
from rnn_gpu.bench.shapes import Case
from rnn_gpu.cuda_arrays import to_cupy
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw.cupy_device import device_of

__all__ = ["CupyPlatform", "Platform"]

Array = Any

FLUSHED = 1 << 30
"""Bytes written before each run: more than any cache, and a quarter of a millisecond, in which the run is queued."""


class Platform(Protocol):
    """A device to measure on."""

    name: str

    def put(self, array: NDArray[Any]) -> Array:
        """A host array, on the device."""

    def repeated(self, block: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array of this shape, filled with the block again and again."""

    def difference(self, found: Array, right: Array) -> tuple[float, float]:
        """The largest difference of two arrays of the device, NaN where there is one, and the largest of `right`."""

    def time(self, run: Callable[[], object]) -> float:
        """Seconds from the begin to the end of what `run` queues, on the device's clock.

        The caches are empty before, and the device is busy while the first of it is queued: the time is not that of
        waking an idle device.
        """

    def prepare(self, backend: str, cases: Sequence[Case], stop: Callable[[], bool]) -> None:
        """Compile what the backend needs for the cases, on all processors, until `stop` says so; or nothing."""

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def peak_bytes(self, run: Callable[[], object]) -> int:
        """The most memory in use during `run`, beyond what was in use before."""


class CupyPlatform:
    """The current CUDA device, through CuPy."""

    def __init__(self) -> None:
        self._cupy = importlib.import_module("cupy")
        runtime = self._cupy.cuda.runtime
        device = self._cupy.cuda.Device()
        self.name = runtime.getDeviceProperties(device.id)["name"].decode()
        self._flush = self._cupy.empty(FLUSHED // 4, np.int32)
        self._events = [self._cupy.cuda.Event() for _ in range(2)]

    def put(self, array: NDArray[Any]) -> Array:
        return self._cupy.asarray(array)

    def repeated(self, block: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return self._cupy.resize(self._cupy.asarray(block), shape).astype(dtype, copy=False)

    def difference(self, found: Array, right: Array) -> tuple[float, float]:
        cupy = self._cupy
        if not right.size:
            return 0.0, 0.0
        wide = to_cupy(right).astype(np.float64)
        return float(cupy.abs(to_cupy(found).astype(np.float64) - wide).max()), float(cupy.abs(wide).max())

    def time(self, run: Callable[[], object]) -> float:
        begin, end = self._events
        self._flush.fill(0)
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(begin, end)) * 1e-3

    def prepare(self, backend: str, cases: Sequence[Case], stop: Callable[[], bool]) -> None:
        if backend != "cupy_raw":
            return
        from rnn_gpu.kernels.cupy_raw import ahead, plan  # noqa: PLC0415  (so that other backends need them not)

        properties = device_of(library_of("x", self._flush)).properties
        kernels = []
        for case in cases:
            try:
                found = plan.plan_for(
                    case.cell, case.dtype, case.shape.B, case.shape.H, properties, save=case.mode != "forward",
                    tf32=case.tf32,
                )  # fmt: skip
            except BackendError:  # it will be said where the case is to be run
                continue
            kernels += ahead.kernels_of(
                case.cell, case.dtype, found, lengths=case.ragged, resets=case.resets > 0,
                keeps=0 if case.mode == "forward" else 2,
            )  # fmt: skip
        ahead.compile_ahead(kernels, properties, stop)

    def synchronize(self) -> None:
        self._cupy.cuda.Device().synchronize()

    def peak_bytes(self, run: Callable[[], object]) -> int:
        pool = self._cupy.get_default_memory_pool()
        self.synchronize()
        pool.free_all_blocks()
        before = pool.total_bytes()
        kept = run()
        self.synchronize()
        peak = pool.total_bytes() - before
        del kept
        return int(peak)
