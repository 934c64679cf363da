"""The cuBLAS calls that a product is made of, run by the definition of GEMM on column-major memory."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from rnn_gpu.kernels.cupy_raw import cublas
from rnn_gpu.kernels.cupy_raw.device import Matrix, Product
from rnn_gpu.kernels.cupy_raw.products import Products, calls


def gemm(call):
    """op(A) op(B) on memory, as cuBLAS defines it: column-major, leading dimensions in elements."""

    def element(address, lead, row, column):
        return ctypes.c_double.from_address(address + 8 * (column * lead + row))

    assert call.lda >= max(1, call.k if call.op_a else call.m)
    assert call.ldb >= max(1, call.n if call.op_b else call.k)
    assert call.ldc >= max(1, call.m)
    for i in range(call.m):
        for j in range(call.n):
            total = 0.0
            for p in range(call.k):
                left = (p, i) if call.op_a else (i, p)
                right = (j, p) if call.op_b else (p, j)
                of_a, of_b = element(call.begin_a, call.lda, *left), element(call.begin_b, call.ldb, *right)
                total += of_a.value * of_b.value
            place = element(call.begin_c, call.ldc, i, j)
            place.value = total + (place.value if call.accumulate else 0)


def matrix(rng, rows, columns, layout):
    """(matrix, the same as an array): whole numbers, so that sums are exact; NaN in the gaps of its memory."""
    transposed, gaps = layout.startswith("transposed"), 3 if layout.endswith("gaps") else 0
    down, along = (columns, rows) if transposed else (rows, columns)
    memory = np.full((down, along + gaps), np.nan)
    view = memory[:, :along]
    view[...] = rng.integers(-4, 5, view.shape)
    found = Matrix(down, along, along + gaps, memory.dtype, begin=memory.ctypes.data)
    return (found.T, view.T) if transposed else (found, view)


def result(rows, columns, gaps=0):
    """(matrix, its memory), full of sevens."""
    memory = np.full((rows, columns + gaps), 7.0)
    return Matrix(rows, columns, columns + gaps, memory.dtype, begin=memory.ctypes.data), memory


def run(a, b, out, *, most=1 << 30):
    made = calls(a, b, out, most=most)
    for call in made:
        gemm(call)
    return made


FLOAT32 = np.dtype(np.float32)

LAYOUTS = ("plain", "transposed", "gaps", "transposed gaps")


@pytest.mark.parametrize(
    "shape", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (1, 4, 1), (5, 1, 1)], ids=str
)
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_every_layout(left, right, shape):
    rng = np.random.default_rng(0)
    m, k, n = shape
    (a, a_view), (b, b_view) = matrix(rng, m, k, left), matrix(rng, k, n, right)
    for gaps in (0, 2):
        out, c = result(m, n, gaps)
        run(a, b, out)
        assert_array_equal(c[:, :n], a_view @ b_view)
        assert_array_equal(c[:, n:], 7)


@pytest.mark.parametrize("layouts", [("plain", "gaps"), ("transposed", "transposed")])
def test_more_rows_and_terms_than_one_call_takes(layouts):
    rng = np.random.default_rng(1)
    (a, a_view), (b, b_view) = matrix(rng, 7, 5, layouts[0]), matrix(rng, 5, 3, layouts[1])
    out, c = result(7, 3)
    made = run(a, b, out, most=2)
    assert len(made) == 4 * 3
    assert max(max(call.n, call.k) for call in made) == 2
    assert_array_equal(c, a_view @ b_view)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_of_matrices(layout):
    """The same numbers as those of the array's slices, whichever way they lie."""
    rng = np.random.default_rng(2)
    (a, a_view), (b, b_view) = matrix(rng, 6, 7, layout), matrix(rng, 7, 4, "plain")
    out, c = result(6, 5, 1)
    run(a.block(1, 3, 2, 4), b.block(2, 4, 1, 3), out.block(2, 3, 1, 3))
    expected = np.full((6, 6), 7.0)
    expected[2:5, 1:4] = a_view[1:4, 2:6] @ b_view[2:6, 1:4]
    assert_array_equal(c, expected)


def test_a_product_at_several_addresses(monkeypatch):
    """cuBLAS' arguments in its order, with the parts of matrices where they are."""
    given = []
    monkeypatch.setattr(cublas, "gemm", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(cublas, "set_stream", lambda *arguments: given.append(arguments))
    products = Products()
    monkeypatch.setattr(products, "_handle", 1)
    left, right, whole = Matrix(6, 4, 9, FLOAT32), Matrix(5, 6, 6, FLOAT32), Matrix(8, 5, 5, FLOAT32)
    product = Product(left.block(1, 3), right.T.block(1, 4), whole.block(2, 3), tf32=True)
    for a, b, out in ((1000, 2000, 3000), (5000, 6000, 7000)):
        products.multiply(product, a, b, out, 77, 0)
        *head, kind_a, lda, at_b, kind_b, ldb, beta, at_c, kind_c, ldc, compute, algorithm = given.pop()
        assert (head[:6], head[7].value) == ([1, 1, 0, 5, 3, 4], b + 4)
        assert (kind_a, lda, at_b.value, kind_b, ldb, at_c.value) == (0, 6, a + 36, 0, 9, out + 40)
        assert (kind_c, ldc, compute, algorithm) == (0, 5, 77, -1)
        assert [ctypes.c_float.from_address(scale.value).value for scale in (head[6], beta)] == [1, 0]
    assert given == [(1, 77, 0)]


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 0)], ids=str)
def test_nothing_to_compute_is_no_call(shape):
    m, k, n = shape
    rng = np.random.default_rng(3)
    assert run(matrix(rng, m, k, "plain")[0], matrix(rng, k, n, "plain")[0], result(m, n)[0]) == []


def test_a_transposed_result_is_refused():
    rng = np.random.default_rng(4)
    a, _ = matrix(rng, 3, 3, "plain")
    with pytest.raises(ValueError, match="the result is to be row-major"):
        calls(a, a, result(3, 3)[0].T)
