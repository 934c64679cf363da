"""Matrix products by cuBLAS: which call makes row-major C = A B, and making it.

cuBLAS is column-major. A row-major [M, N] matrix is a column-major [N, M] one, so that C = A B is asked for as
C^T = B^T A^T, without a copy.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.kernels.cupy_raw import cublas

__all__ = ["Call", "Products", "calls"]

Array = Any

_NORMAL, _TRANSPOSED = 0, 1
"""cublasOperation_t."""

_TYPES = {"float64": 1, "float32": 0, "float16": 2, "bfloat16": 14}
"""cudaDataType_t by dtype: CUDA_R_64F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF."""

_COMPUTE_64F, _COMPUTE_32F, _COMPUTE_TF32 = 70, 68, 77
"""cublasComputeType_t. 32F is IEEE for float32, and float32 sums of exact products for 16-bit operands."""

_NO_REDUCED_PRECISION = 16
"""cublasMath_t: partial sums of 16-bit products are not themselves rounded to 16 bits."""

_DEFAULT_ALGORITHM = -1

MOST_ROWS = 1 << 30
"""Rows, or terms of a sum, of one call; cuBLAS counts in 32 bits."""


class Call(NamedTuple):
    """The arguments of one cublasGemmEx in its column-major terms, but for the pointers' own addresses.

    offset_*: elements from the first of each array to where the call begins. accumulate: beta is 1, else 0.
    """

    op_a: int
    op_b: int
    m: int
    n: int
    k: int
    offset_a: int
    lda: int
    offset_b: int
    ldb: int
    offset_c: int
    ldc: int
    accumulate: bool


@dataclass(frozen=True)
class _Matrix:
    """rows x columns, `lead` elements from one row to the next, or, transposed, from one column to the next."""

    rows: int
    columns: int
    lead: int
    transposed: bool

    @classmethod
    def of(cls, array: Array) -> _Matrix:
        (rows, columns), size = array.shape, array.dtype.itemsize
        down, along = (stride // size for stride in array.strides)
        if columns == 1 or along == 1:
            lead, transposed = (down if rows > 1 else columns), False
        elif rows == 1 or down == 1:
            lead, transposed = along, True
        else:
            raise ValueError(f"a matrix of strides {array.strides} is neither row-major nor the transpose of such")
        return cls(rows, columns, max(lead, rows if transposed else columns, 1), transposed)

    def offset(self, row: int, column: int) -> int:
        return column * self.lead + row if self.transposed else row * self.lead + column


def calls(a: Array, b: Array, out: Array, *, accumulate: bool, most: int = MOST_ROWS) -> list[Call]:
    """The cuBLAS calls for out = a @ b, or out += a @ b; none where out has no elements. K must be at least 1.

    a [M, K], b [K, N]: row-major or the transpose of such, gaps between rows allowed; out [M, N]: row-major.
    most: rows and terms of one call; more are shared out over several.
    """
    if 0 in out.shape:
        return []
    left, right, result = map(_Matrix.of, (a, b, out))
    if result.transposed:
        raise ValueError("the result is to be row-major")
    made = []
    for row in range(0, left.rows, most):
        for term in range(0, left.columns, most):
            made.append(
                Call(
                    _TRANSPOSED if right.transposed else _NORMAL,
                    _TRANSPOSED if left.transposed else _NORMAL,
                    m=right.columns,
                    n=min(most, left.rows - row),
                    k=min(most, left.columns - term),
                    offset_a=right.offset(term, 0),
                    lda=right.lead,
                    offset_b=left.offset(row, term),
                    ldb=left.lead,
                    offset_c=result.offset(row, 0),
                    ldc=result.lead,
                    accumulate=accumulate or term > 0,
                )
            )
    return made


class Products(threading.local):
    """cuBLAS on one device, with a handle a thread, which nobody else can tell to use TF32."""

    def __init__(self) -> None:
        self._handle: int | None = None
        self._stream: tuple[int, int] | None = None

    def queue_on(self, stream: int, workspace: int = 0) -> None:
        """Queue what follows on the stream of this address. workspace: see `cublas.set_stream`."""
        if self._stream != (stream, workspace):
            cublas.set_stream(self.handle(), stream, workspace)
            self._stream = (stream, workspace)

    def matmul(self, a: Array, b: Array, out: Array, *, accumulate: bool, tf32: bool) -> None:
        """out = a @ b, or out += a @ b, on the current device. out is of their dtype, or float32."""
        if a.shape[1] == 0:
            if not accumulate:
                out.fill(0)
            return
        kind = a.dtype.name
        compute = _COMPUTE_64F if kind == "float64" else _COMPUTE_TF32 if tf32 and kind == "float32" else _COMPUTE_32F
        scale = _ONES["float64" if kind == "float64" else "float32"]
        size, size_out = a.dtype.itemsize, out.dtype.itemsize
        for call in calls(a, b, out, accumulate=accumulate):
            cublas.gemm(
                self.handle(), call.op_a, call.op_b, call.m, call.n, call.k,
                scale.one,
                b.data.ptr + size * call.offset_a, _TYPES[kind], call.lda,
                a.data.ptr + size * call.offset_b, _TYPES[kind], call.ldb,
                scale.one if call.accumulate else scale.zero,
                out.data.ptr + size_out * call.offset_c, _TYPES[out.dtype.name], call.ldc,
                compute, _DEFAULT_ALGORITHM,
            )  # fmt: skip

    def handle(self) -> int:
        """This thread's, made on the current device at its first use."""
        if self._handle is None:
            self._handle = cublas.create()
            cublas.set_math_mode(self._handle, _NO_REDUCED_PRECISION)
            weakref.finalize(threading.current_thread(), cublas.destroy, self._handle).atexit = False
        return self._handle


class _Scale:
    """Addresses of a one and a zero on the host, where cuBLAS reads alpha and beta."""

    def __init__(self, dtype: str) -> None:
        self._values = np.array([1, 0], dtype)
        self.one = self._values.ctypes.data
        self.zero = self.one + self._values.itemsize


_ONES = {name: _Scale(name) for name in ("float32", "float64")}
