"""Matrix products by cuBLAS: which call makes row-major C = A B, and making it.

cuBLAS is column-major. A row-major [M, N] matrix is a column-major [N, M] one, so that C = A B is asked for as
C^T = B^T A^T, without a copy.
"""

from __future__ import annotations

import threading
import weakref
from ctypes import c_void_p
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.arrays import name_of
from rnn_gpu.kernels.cupy_raw import cublas
from rnn_gpu.kernels.cupy_raw.device import Matrix, Product

__all__ = ["Call", "Products", "calls"]

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
    """The arguments of one cublasGemmEx in its column-major terms, with the bytes from the addresses to the numbers.

    accumulate: beta is 1, else 0.
    """

    op_a: int
    op_b: int
    m: int
    n: int
    k: int
    begin_a: int
    lda: int
    begin_b: int
    ldb: int
    begin_c: int
    ldc: int
    accumulate: bool


def calls(a: Matrix, b: Matrix, out: Matrix, *, most: int = MOST_ROWS) -> list[Call]:
    """The cuBLAS calls for out = a @ b; none where out has no elements. K must be at least 1.

    a [M, K], b [K, N], out [M, N]: row-major. most: rows and terms of one call; more are shared out over several.
    """
    if out.transposed:
        raise ValueError("the result is to be row-major")
    if not out.rows or not out.columns:
        return []
    made = []
    for row in range(0, a.rows, most):
        for term in range(0, a.columns, most):
            rows, terms = min(most, a.rows - row), min(most, a.columns - term)
            left, right = a.block(row, rows, term, terms), b.block(term, terms)
            made.append(_call(left, right, out.block(row, rows), term > 0))
    return made


def _call(a: Matrix, b: Matrix, out: Matrix, accumulate: bool) -> Call:
    return Call(
        int(b.transposed), int(a.transposed),  # cublasOperation_t: 0, as it lies in memory; 1, its transpose
        b.columns, a.rows, a.columns, b.begin, _lead(b), a.begin, _lead(a), out.begin, _lead(out), accumulate,
    )  # fmt: skip


def _lead(matrix: Matrix) -> int:
    """As cuBLAS wants it: at least 1, and no less than what lies together, even where there is one row."""
    return max(matrix.lead, matrix.rows if matrix.transposed else matrix.columns, 1)


@cache
def _kinds(dtype: np.dtype[Any], out: np.dtype[Any], tf32: bool) -> tuple[int, int, int, c_void_p, c_void_p]:
    """What cuBLAS calls these dtypes and the arithmetic, and the addresses of a one and a zero on the host for it."""
    kind = name_of(dtype)
    compute = _COMPUTE_64F if kind == "float64" else _COMPUTE_TF32 if tf32 and kind == "float32" else _COMPUTE_32F
    scale = _ONES["float64" if kind == "float64" else "float32"]
    return _TYPES[kind], _TYPES[name_of(out)], compute, scale.one, scale.zero


def _prepared(product: Product) -> tuple[tuple[Any, ...], ...]:
    """For each call what cuBLAS is given, but for the handle and the addresses, of which it has the parts to add."""
    a, b, out = product.a, product.b, product.out
    type_in, type_out, compute, one, zero = _kinds(a.dtype, out.dtype, product.tf32)
    return tuple(
        (
            (call.op_a, call.op_b, call.m, call.n, call.k, one), call.begin_a, (type_in, call.lda), call.begin_b,
            (type_in, call.ldb, one if call.accumulate else zero), call.begin_c,
            (type_out, call.ldc, compute, _DEFAULT_ALGORITHM),
        )
        for call in calls(a, b, out)
    )  # fmt: skip


class Products(threading.local):
    """cuBLAS on one device, with a handle a thread, which nobody else can tell to use TF32."""

    def __init__(self) -> None:
        self._handle: c_void_p | None = None
        self._queue: tuple[int, int] | None = None

    def multiply(self, product: Product, a: int, b: int, out: int, stream: int, workspace: int) -> None:
        """As `Device.multiply`, on the current device and the stream of this address; K is at least 1.

        workspace: see `cublas.set_stream`.
        """
        handle = self._handle or self._made()
        if self._queue != (stream, workspace):
            cublas.set_stream(handle, stream, workspace)
            self._queue = (stream, workspace)
        if product.prepared is None:
            product.prepared = _prepared(product)
        for shape, left, kind, right, kinds, result, rest in product.prepared:
            cublas.gemm(
                handle, *shape, c_void_p(b + left), *kind, c_void_p(a + right), *kinds, c_void_p(out + result), *rest
            )

    def _made(self) -> c_void_p:
        """This thread's handle, made on the current device."""
        self._handle = cublas.create()
        cublas.set_math_mode(self._handle, _NO_REDUCED_PRECISION)
        weakref.finalize(threading.current_thread(), cublas.destroy, self._handle).atexit = False
        return self._handle


class _Scale:
    """Addresses of a one and a zero on the host, where cuBLAS reads alpha and beta."""

    def __init__(self, dtype: str) -> None:
        self._values = np.array([1, 0], dtype)
        self.one, self.zero = [c_void_p(self._values[k:].ctypes.data) for k in (0, 1)]


_ONES = {name: _Scale(name) for name in ("float32", "float64")}
