"""Matrix products by cuBLAS: which call makes row-major C = A B, and making it.

cuBLAS is column-major. A row-major [M, N] matrix is a column-major [N, M] one, so that C = A B is asked for as
C^T = B^T A^T, without a copy.
"""

from __future__ import annotations

import threading
import weakref
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.arrays import name_of
from rnn_gpu.kernels.cupy_raw import cublas
from rnn_gpu.kernels.cupy_raw.device import Matrix

__all__ = ["Call", "Products", "calls"]

_TYPES = {"float64": 1, "float32": 0, "float16": 2, "bfloat16": 14}
"""cudaDataType_t by dtype: CUDA_R_64F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF."""

_COMPUTE_64F, _COMPUTE_32F, _COMPUTE_TF32 = 70, 68, 77
"""cublasComputeType_t. 32F is IEEE for float32, and float32 sums of exact products for 16-bit operands."""

_NO_REDUCED_PRECISION = 16
"""cublasMath_t: partial sums of 16-bit products are not themselves rounded to 16 bits."""

_DEFAULT_ALGORITHM = -1

Shape = tuple[int, int, int, np.dtype[Any], bool]
"""All of a matrix but its address."""

MOST_ROWS = 1 << 30
"""Rows, or terms of a sum, of one call; cuBLAS counts in 32 bits."""


class Call(NamedTuple):
    """The arguments of one cublasGemmEx in its column-major terms. accumulate: beta is 1, else 0."""

    op_a: int
    op_b: int
    m: int
    n: int
    k: int
    address_a: int
    lda: int
    address_b: int
    ldb: int
    address_c: int
    ldc: int
    accumulate: bool


def calls(a: Matrix, b: Matrix, out: Matrix, *, accumulate: bool, most: int = MOST_ROWS) -> list[Call]:
    """The cuBLAS calls for out = a @ b, or out += a @ b; none where out has no elements. K must be at least 1.

    a [M, K], b [K, N], out [M, N]: row-major. most: rows and terms of one call; more are shared out over several.
    """
    if out.transposed:
        raise ValueError("the result is to be row-major")
    if not out.rows or not out.columns:
        return []
    if a.rows <= most and a.columns <= most:
        return [_call(a, b, out, accumulate)]
    made = []
    for row in range(0, a.rows, most):
        for term in range(0, a.columns, most):
            rows, terms = min(most, a.rows - row), min(most, a.columns - term)
            left, right = a.block(row, rows, term, terms), b.block(term, terms)
            made.append(_call(left, right, out.block(row, rows), accumulate or term > 0))
    return made


@lru_cache(maxsize=1024)
def _calls(a: Shape, b: Shape, out: Shape, accumulate: bool) -> list[Call]:
    """`calls` for matrices at address 0, found once."""
    return calls(Matrix(0, *a), Matrix(0, *b), Matrix(0, *out), accumulate=accumulate)


def _call(a: Matrix, b: Matrix, out: Matrix, accumulate: bool) -> Call:
    return Call(
        int(b.transposed), int(a.transposed),  # cublasOperation_t: 0, as it lies in memory; 1, its transpose
        b.columns, a.rows, a.columns, b.address, _lead(b), a.address, _lead(a), out.address, _lead(out), accumulate,
    )  # fmt: skip


def _lead(matrix: Matrix) -> int:
    """As cuBLAS wants it: at least 1, and no less than what lies together, even where there is one row."""
    return max(matrix.lead, matrix.rows if matrix.transposed else matrix.columns, 1)


@cache
def _kinds(dtype: np.dtype[Any], out: np.dtype[Any], tf32: bool) -> tuple[int, int, int, int, int]:
    """What cuBLAS calls these dtypes and the arithmetic, and the addresses of a one and a zero on the host for it."""
    kind = name_of(dtype)
    compute = _COMPUTE_64F if kind == "float64" else _COMPUTE_TF32 if tf32 and kind == "float32" else _COMPUTE_32F
    scale = _ONES["float64" if kind == "float64" else "float32"]
    return _TYPES[kind], _TYPES[name_of(out)], compute, scale.one, scale.zero


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

    def matmul(self, a: Matrix, b: Matrix, out: Matrix, *, accumulate: bool, tf32: bool) -> None:
        """out = a @ b, or out += a @ b, on the current device; K is at least 1. out is of their dtype, or float32."""
        type_in, type_out, compute, one, zero = _kinds(a.dtype, out.dtype, tf32)
        handle = self._handle or self.handle()
        for op_a, op_b, m, n, k, left, lda, right, ldb, result, ldc, add in _calls(a[1:], b[1:], out[1:], accumulate):
            cublas.gemm(
                handle, op_a, op_b, m, n, k, one, b.address + left, type_in, lda, a.address + right, type_in, ldb,
                one if add else zero, out.address + result, type_out, ldc, compute, _DEFAULT_ALGORITHM,
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
