"""What the backend asks of a device: memory, products, launches. CuPy provides it on a GPU, an emulation on the CPU.

Memory is arrays of the caller's library: whatever they are, they have `shape`, `reshape` and indexing, as NumPy's do.
Kernels and products are given addresses; whoever gives one keeps its array until the work is queued. All work goes to
the device's current stream, in the order in which it was asked for.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["ALIGNMENT", "Device", "Kernel", "Launch", "Matrix", "Memory", "Product", "Properties"]

Array = Any

ALIGNMENT = 16
"""Bytes to which arrays that products and kernels read are aligned."""


@dataclass(frozen=True)
class Properties:
    """What the plan needs to know of a device. Sizes in bytes, rates a second.

    capability: compute capability, (9, 0) for sm_90; shared_block: the most shared memory a block can opt in to.
    shared_multiprocessor, registers_multiprocessor: shared memory and 32-bit registers of one multiprocessor.
    max_cluster: blocks in the largest cluster it launches, 1 where it has none; clock: of the multiprocessors.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_block: int
    shared_multiprocessor: int
    registers_multiprocessor: int
    max_cluster: int
    cooperative: bool
    memory: int
    l2: int
    clock: float
    bandwidth: float

    @property
    def arch(self) -> str:
        """As compilers name it: "sm_90"."""
        return "sm_{}{}".format(*self.capability)


class Kernel(NamedTuple):
    """One kernel, by what it is compiled from: the same text for NVRTC, for CuPy's RawModule and for the emulation.

    source: a whole translation unit that includes nothing; it has further kernels besides this one.
    entry: the kernel's name, extern "C".
    """

    source: str
    entry: str

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the source: with arch and compiler version, the key of a cache of binaries."""
        return hashlib.sha256(self.source.encode()).hexdigest()


class Launch(NamedTuple):
    """A kernel and its launch on a one-dimensional grid, but for its parameters.

    grid: blocks; block: threads. shared: bytes of dynamic shared memory, above 48 KiB opted in to. cluster: blocks a
    cluster; the kernel has its size compiled in (`__cluster_dims__`), and more than 8 need the non-portable attribute.
    cooperative: all blocks run at once.
    """

    kernel: Kernel
    grid: int
    block: int
    shared: int
    cluster: int = 1
    cooperative: bool = False


class Matrix(NamedTuple):
    """rows x columns numbers, `lead` from one row to the next; or, transposed, from one column to the next.

    begin: bytes from the address that it is given to its first number.
    """

    rows: int
    columns: int
    lead: int
    dtype: np.dtype[Any]
    transposed: bool = False
    begin: int = 0

    @property
    def T(self) -> Matrix:
        """Its transpose."""
        return Matrix(self.columns, self.rows, self.lead, self.dtype, not self.transposed, self.begin)

    def block(self, row: int, rows: int, column: int = 0, columns: int | None = None) -> Matrix:
        """So many rows and columns of it, by default all columns, from this row and column on."""
        down, along = (1, self.lead) if self.transposed else (self.lead, 1)
        begin = self.begin + (row * down + column * along) * self.dtype.itemsize
        columns = self.columns if columns is None else columns
        return Matrix(rows, columns, self.lead, self.dtype, self.transposed, begin)


@dataclass(eq=False)
class Product:
    """out = a @ b, made once for many addresses; [M, K] @ [K, N], any of the axes may be 0, K = 0 giving zeros.

    a, b: of one dtype; out: row-major, of the same dtype, or float32 where a and b have 16 bits. Sums are in float32,
    in float64 for float64. float32 is IEEE unless tf32 is True. prepared: what a device keeps with it.
    """

    a: Matrix
    b: Matrix
    out: Matrix
    tf32: bool = False
    prepared: Any = None


class Memory(Protocol):
    """The arrays of one library on one device, and what is done with them beside kernels and products.

    Work goes to the stream that the library's caller works on, in the order in which it was asked for.
    """

    def adopt(self, array: Array) -> Array:
        """The caller's array, as one of the library's on the same memory. Any strides, any alignment."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Row-major memory that holds anything; its address is a multiple of 256 bytes."""

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The same, full of zeros."""

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        """A row-major copy of a host array; the host array may be changed at once."""

    def parts(self, array: Array) -> tuple[Array, ...]:
        """array[0], array[1] ... of a dense array as the caller gets them: he may write to each."""

    def address(self, array: Array) -> int:
        """Of the first element."""

    def dtype(self, array: Array) -> np.dtype[Any]:
        """As NumPy has it."""

    def dense_address(self, array: Array, dtype: np.dtype[Any], alignment: int = ALIGNMENT) -> int | None:
        """The address of the caller's array, or of one of the library's, where it can be read as it is: row-major,
        without gaps, in this dtype, at a multiple of so many bytes. Else None."""

    def copy(self, source: Array, out: Array) -> None:
        """out[...] = source, any strides, rounded to out's dtype; shapes are equal."""

    def take_rows(self, source: Array, rows: Array, out: Array) -> None:
        """out[n] = source[rows[n]], rounded to out's dtype; both are matrices, rows int64 on the device."""


class Device(Protocol):
    """One device, and the stream that work goes to."""

    properties: Properties
    memory: Memory

    def active(self) -> AbstractContextManager[None]:
        """Within it, this device and the caller's stream are current. Every other method, and those of `memory`, are
        called within it, and it is not entered again there.

        Running out of device memory within it is a MemoryError, and leaves all usable.
        """

    def multiply(self, product: Product, a: int, b: int, out: int) -> None:
        """Do the product of what lies at these addresses. The result is the same bits each time."""

    def build(self, kernel: Kernel) -> None:
        """Compile ahead of the first launch; does nothing where it has been."""

    def launch(self, launch: Launch, parameters: ctypes.Structure) -> None:
        """Launch; `parameters` is the kernel's one argument, passed by value.

        Raises BackendError where it does not fit.
        """

    def repeat(self, body: Callable[[], None], times: int) -> None:
        """Call `body` `times` times; it issues the same launches and products each time, on the same addresses.

        A device may record them once (a CUDA graph) and replay them. `body` allocates nothing.
        """
