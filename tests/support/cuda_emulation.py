"""The GPU backend on the CPU: its kernels compiled by g++ and run thread by thread, its arrays NumPy's.

`EmulatedDevice` implements the backend's `Device`, so that plans, workspaces, parameters and kernels are those of a
GPU.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw import source
from rnn_gpu.kernels.cupy_raw.device import ALIGNMENT, Kernel, Launch, Matrix, Memory, Product, Properties

__all__ = [
    "HIGHEST_FIRST",
    "LOWEST_FIRST",
    "RANDOM",
    "SMALL",
    "EmulatedDevice",
    "EmulationError",
    "compile_units",
    "ready",
]

HERE = Path(__file__).parents[1] / "cuda_emulation"
ARCH = HERE / "arch.h"

LOWEST_FIRST, HIGHEST_FIRST, RANDOM = range(3)
"""Which of the threads that can run does: see runtime.cpp."""

GUARD = 64
"""Bytes before and after each array, which nothing may write."""

SMALL = Properties(
    name="emulated",
    capability=(9, 0),
    multiprocessors=8,
    shared_block=227 * 1024,
    shared_multiprocessor=228 * 1024,
    registers_multiprocessor=65536,
    max_cluster=16,
    cooperative=True,
    memory=1 << 34,
    l2=1 << 25,
    clock=1.7e9,
    bandwidth=4e12,
)


class EmulationError(AssertionError):
    """A kernel did what no GPU would forgive: a deadlock, a store out of bounds, a store to a block that has ended."""


@cache
def folder() -> Path:
    """Where compiled kernels lie, for this process and until it ends."""
    made = tempfile.mkdtemp(prefix="rnn_gpu_emulation_")
    atexit.register(shutil.rmtree, made)
    return Path(made)


@cache
def _runtime() -> ctypes.CDLL:
    path = folder() / "librnn_gpu_runtime.so"
    _gcc("-O2", HERE / "runtime.cpp", "-o", path)
    runtime = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    runtime.rnn_gpu_launch.argtypes = (
        [ctypes.c_void_p] * 2 + [ctypes.c_int] * 2 + [ctypes.c_long] + [ctypes.c_int] * 3 + [ctypes.c_uint64]
    ) + [ctypes.c_char_p]
    runtime.rnn_gpu_prefetched.argtypes, runtime.rnn_gpu_prefetched.restype = [ctypes.c_void_p], ctypes.c_long
    return runtime


def _prefetched() -> np.ndarray[Any, Any]:
    """What the last launch has asked for, addresses and bytes."""
    found = np.empty((_runtime().rnn_gpu_prefetched(None), 2), np.uint64)
    _runtime().rnn_gpu_prefetched(found.ctypes.data)
    return found


_OPTIMIZED = ("-Og", "-ffp-contract=off", "-Wno-maybe-uninitialized")
"""Of the levels, what compiles in least time; numbers are not contracted, as NumPy's are not."""


def _gcc(*arguments: object) -> None:
    command = ["g++", "-std=c++17", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    run = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    if run.returncode:
        raise AssertionError(run.stderr[:4000])


@cache
def _drivers() -> Path:
    """A header with all that comes before a kernel's cell, the drivers as they are, compiled beforehand."""
    path = folder() / "drivers.h"
    path.write_text(f"{ARCH.read_text()}\n{source.drivers()}")
    _gcc(*_OPTIMIZED, "-x", "c++-header", path, "-o", f"{path}.gch")
    return path


_entries: dict[str, ctypes.CDLL] = {}
"""By kernel, the library that has it."""


def ready(specs: Sequence[source.Spec]) -> None:
    """Compile what of these kernels has not been compiled, two translation units at a time."""
    missing = [spec for spec in specs if spec.entry not in _entries]
    if missing:
        units = list(dict.fromkeys(source.kernel(spec).source for spec in missing))
        libraries = dict(zip(units, compile_units(units), strict=True))
        _entries.update((spec.entry, libraries[source.kernel(spec).source]) for spec in missing)


def compile_units(units: Sequence[str]) -> list[ctypes.CDLL]:
    """Compile translation units, two at a time."""
    _runtime()
    _drivers()
    paths = [folder() / f"{hashlib.sha256(unit.encode()).hexdigest()[:16]}.so" for unit in units]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_compile, units, paths))
    return [ctypes.CDLL(str(path)) for path in paths]


def _compile(unit: str, path: Path) -> None:
    if path.exists():
        return
    ours = unit.startswith(source.drivers())  # not those that a test has changed
    text = path.with_suffix(".cpp")
    text.write_text(unit.removeprefix(source.drivers()))
    _gcc(*_OPTIMIZED, "-include", _drivers() if ours else ARCH, text, "-o", path)


def array_of(matrix: Matrix, address: int) -> np.ndarray[Any, Any]:
    """A matrix in the host's memory at that address, as an array on the same memory."""
    size = matrix.dtype.itemsize
    rows, columns = (matrix.columns, matrix.rows) if matrix.transposed else (matrix.rows, matrix.columns)
    if not rows or not columns:
        return np.empty((matrix.rows, matrix.columns), matrix.dtype)
    numbers = (rows - 1) * matrix.lead + columns
    memory = np.frombuffer((ctypes.c_char * (numbers * size)).from_address(address + matrix.begin), matrix.dtype)
    array = np.lib.stride_tricks.as_strided(memory, (rows, columns), (matrix.lead * size, size))
    return array.T if matrix.transposed else array


class EmulatedDevice:
    """A device whose memory is NumPy's, or that given, which is on the host.

    launches: the names of the kernels so far; prefetches: the addresses and bytes that each has asked for, [count, 2].
    order, seed: how threads are scheduled. library_of: what has the kernel, or None where it is to be compiled.
    """

    def __init__(
        self,
        properties: Properties = SMALL,
        order: int = LOWEST_FIRST,
        seed: int = 1,
        library_of: Callable[[Kernel], ctypes.CDLL | None] = lambda kernel: None,
        memory: Memory | None = None,
    ) -> None:
        self.memory: Memory = memory or self
        self.properties, self.order, self.seed = properties, order, seed
        self._given = library_of
        self.launches: list[str] = []
        self.prefetches: list[np.ndarray[Any, Any]] = []
        self._guarded: list[np.ndarray[Any, Any]] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        yield
        for memory in self._guarded:
            if (memory[:GUARD] != 0xA5).any() or (memory[-GUARD:] != 0xA5).any():
                raise EmulationError("a store outside an array")
        self._guarded.clear()

    def adopt(self, array: Any) -> Any:
        return array

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        around = np.full(size + 2 * GUARD + 256, 0xFF, np.uint8)  # NaN in every type
        start = -(around.ctypes.data + GUARD) % 256
        memory = around[start : start + size + 2 * GUARD]
        memory[:GUARD] = memory[GUARD + size :] = 0xA5
        self._guarded.append(memory)
        return memory[GUARD : GUARD + size].view(dtype).reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        array = self.empty(shape, dtype)
        array[...] = np.zeros((), dtype)
        return array

    def upload(self, array: np.ndarray[Any, Any]) -> Any:
        copy = self.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def copy(self, source: Any, out: Any) -> None:
        assert source.shape == out.shape
        out[...] = source.astype(out.dtype)

    def take_rows(self, source: Any, rows: Any, out: Any) -> None:
        assert out.shape == (*rows.shape, source.shape[1])
        out[...] = source[rows].astype(out.dtype)

    def multiply(self, product: Product, a: int, b: int, out: int) -> None:
        self._multiply(array_of(product.a, a), array_of(product.b, b), array_of(product.out, out))

    def _multiply(self, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        real = np.dtype(np.float64 if a.dtype == np.float64 else np.float32)
        assert out.dtype in (a.dtype, real)
        out[...] = (a.astype(real) @ b.astype(real)).astype(out.dtype)

    def parts(self, array: Any) -> tuple[Any, ...]:
        return tuple(array)

    def address(self, array: Any) -> int:
        address: int = array.ctypes.data
        return address

    def dtype(self, array: Any) -> np.dtype[Any]:
        dtype: np.dtype[Any] = array.dtype
        return dtype

    def dense_address(self, array: Any, dtype: np.dtype[Any], alignment: int = ALIGNMENT) -> int | None:
        address: int = array.ctypes.data
        return address if array.dtype == dtype and array.flags.c_contiguous and address % alignment == 0 else None

    def build(self, kernel: Kernel) -> None:
        self._library_of(kernel)

    def launch(self, launch: Launch, parameters: ctypes.Structure) -> None:
        kernel, grid, block, shared, cluster, cooperative = launch
        if shared > self.properties.shared_block:
            raise BackendError(f"{shared} bytes of shared memory a block")
        if cooperative and grid > self.properties.multiprocessors:
            raise BackendError(f"{grid} blocks cannot run at once")
        assert grid % cluster == 0
        given = ctypes.addressof(parameters)
        message = ctypes.create_string_buffer(1000)
        entry = ctypes.cast(getattr(self._library_of(kernel), kernel.entry), ctypes.c_void_p)
        failed = _runtime().rnn_gpu_launch(
            entry, given, grid, block, shared, cluster, cooperative, self.order, self.seed, message
        )
        self.launches.append(kernel.entry)
        self.prefetches.append(_prefetched())
        if failed:
            raise EmulationError(f"{kernel.entry}: {message.value.decode()}")

    def repeat(self, body: Callable[[], None], times: int) -> None:
        for _ in range(times):
            body()

    def _library_of(self, kernel: Kernel) -> ctypes.CDLL:
        if given := self._given(kernel):
            return given
        if kernel.entry not in _entries:
            (_entries[kernel.entry],) = compile_units([kernel.source])
        return _entries[kernel.entry]
