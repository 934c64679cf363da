"""The cuBLAS calls that a product is made of, run by the definition of GEMM on column-major memory."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from rnn_gpu.kernels.cupy_raw.products import calls


def gemm(call, a, b, c):
    """op(A) op(B) on flat memory, as cuBLAS defines it: column-major, leading dimensions in elements."""

    def element(array, offset, lead, row, column):
        return offset + column * lead + row

    assert call.lda >= (call.k if call.op_a else call.m)
    assert call.ldb >= (call.n if call.op_b else call.k)
    assert call.ldc >= call.m
    for i in range(call.m):
        for j in range(call.n):
            total = 0.0
            for p in range(call.k):
                left = (p, i) if call.op_a else (i, p)
                right = (j, p) if call.op_b else (p, j)
                total += a[element(a, call.offset_a, call.lda, *left)] * b[element(b, call.offset_b, call.ldb, *right)]
            place = element(c, call.offset_c, call.ldc, i, j)
            c[place] = total + (c[place] if call.accumulate else 0)


def matrix(rng, rows, columns, layout):
    """(memory, view): whole numbers, so that sums are exact; NaN in the gaps."""
    if layout == "plain":
        memory = rng.integers(-4, 5, (rows, columns)).astype(float)
        return memory, memory
    if layout == "transposed":
        memory = rng.integers(-4, 5, (columns, rows)).astype(float)
        return memory, memory.T
    if layout == "gaps":
        memory = np.full((rows, columns + 3), np.nan)
        memory[:, :columns] = rng.integers(-4, 5, (rows, columns))
        return memory, memory[:, :columns]
    memory = np.full((columns, rows + 2), np.nan)
    memory[:, :rows] = rng.integers(-4, 5, (columns, rows))
    return memory, memory[:, :rows].T


def run(memory, a, b, c, out, *, accumulate, most=1 << 30):
    for call in calls(a, b, out, accumulate=accumulate, most=most):
        gemm(call, memory[1].ravel(), memory[0].ravel(), c.reshape(-1))


LAYOUTS = ("plain", "transposed", "gaps", "transposed gaps")


@pytest.mark.parametrize(
    "shape", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (1, 4, 1), (5, 1, 1)], ids=str
)
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_every_layout(left, right, shape):
    rng = np.random.default_rng(0)
    m, k, n = shape
    (memory_a, a), (memory_b, b) = matrix(rng, m, k, left), matrix(rng, k, n, right)
    for gaps in (0, 2):
        for accumulate in (False, True):
            c = np.full((m, n + gaps), 7.0)
            run((memory_a, memory_b), a, b, c, c[:, :n], accumulate=accumulate)
            assert_array_equal(c[:, :n], a @ b + (7 if accumulate else 0))
            assert_array_equal(c[:, n:], 7)


@pytest.mark.parametrize("layouts", [("plain", "gaps"), ("transposed", "transposed")])
def test_more_rows_and_terms_than_one_call_takes(layouts):
    rng = np.random.default_rng(1)
    (memory_a, a), (memory_b, b) = matrix(rng, 7, 5, layouts[0]), matrix(rng, 5, 3, layouts[1])
    c = np.full((7, 3), np.nan)
    made = calls(a, b, c, accumulate=False, most=2)
    assert len(made) == 4 * 3
    assert max(max(call.n, call.k) for call in made) == 2
    run((memory_a, memory_b), a, b, c, c, accumulate=False, most=2)
    assert_array_equal(c, a @ b)


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 0)], ids=str)
def test_nothing_to_compute_is_no_call(shape):
    m, k, n = shape
    assert calls(np.ones((m, k)), np.ones((k, n)), np.ones((m, n)), accumulate=False) == []


def test_other_strides_are_refused():
    with pytest.raises(ValueError, match="neither row-major nor the transpose"):
        calls(np.ones((6, 6))[::2, ::2], np.ones((3, 3)), np.ones((3, 3)), accumulate=False)
    with pytest.raises(ValueError, match="result"):
        calls(np.ones((3, 3)), np.ones((3, 3)), np.ones((3, 3)).T, accumulate=False)
