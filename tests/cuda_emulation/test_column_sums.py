"""The kernel that sums columns, executed on the CPU: any shape, dtype and order of threads."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support.cuda_emulation import HIGHEST_FIRST, LOWEST_FIRST, RANDOM, SMALL, EmulatedDevice, compile_units

from rnn_gpu.arrays import dtype_named
from rnn_gpu.kernels.cupy_raw import source
from rnn_gpu.kernels.cupy_raw.device import Matrix
from rnn_gpu.kernels.cupy_raw.sums import ROWS_ALONE, column_sums

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none"
)

KINDS = [("float64", "float64"), ("float32", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16"),
         ("float32", "bfloat16")]  # fmt: skip
"""Of the matrix and of the sums."""

SHAPES = [(0, 5), (1, 1), (3, 8), (9, 33), (ROWS_ALONE, 64), (ROWS_ALONE + 1, 300), (1500, 16), (700, 3)]

ORDERS = [(LOWEST_FIRST, 1), (HIGHEST_FIRST, 1), *((RANDOM, seed) for seed in range(1, 6))]


def summed(array: np.ndarray, out: str, device: EmulatedDevice, times: int = 1) -> list[np.ndarray]:
    dtype = dtype_named(out)
    with device.active():
        memory = device.upload(array)
        found = [device.empty(array.shape[1:], dtype) for _ in range(times)]
        matrix = Matrix(*array.shape, array.shape[1], array.dtype)
        column_sums(device, device.address(memory), matrix, dtype, *[device.address(each) for each in found])
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "out"), KINDS)
def test_sums_are_those_of_float64(dtype, out, shape):
    """To the last bit: whole numbers whose sums float64 has exactly."""
    array = np.random.default_rng(0).integers(-30, 31, shape).astype(dtype_named(dtype))
    expected = array.astype(np.float64).sum(axis=0).astype(np.float32 if dtype != "float64" else np.float64)
    for found in summed(array, out, EmulatedDevice(), 2):
        assert found.dtype == dtype_named(out)
        assert_array_equal(found.astype(np.float64), expected.astype(dtype_named(out)).astype(np.float64))


def test_rounding_errors_do_not_add_up():
    """float32 numbers whose sum in float32, one after the other, has lost most of its digits."""
    rows = 3000
    array = np.full((rows, 4), 1e-4, np.float32)
    array[0] = 1e4
    (found,) = summed(array, "float32", EmulatedDevice())
    assert_array_equal(found, array.astype(np.float64).sum(axis=0).astype(np.float32))
    assert np.add.accumulate(array, axis=0)[-1, 0] != found[0]


@pytest.mark.parametrize("columns", [3, 8])
def test_what_is_no_number_stays_in_its_column(columns):
    array = np.ones((600, columns), np.float32)
    array[555, 1], array[3, 2] = np.nan, np.inf
    (found,) = summed(array, "float32", EmulatedDevice())
    assert_array_equal(found, [600, np.nan, np.inf, *[600] * (columns - 3)])


@pytest.mark.parametrize("multiprocessors", [1, 8, 132])
def test_each_launch_covers_all_columns_and_pieces(multiprocessors):
    array = np.random.default_rng(1).integers(-9, 10, (2 * ROWS_ALONE + 3, 520)).astype(np.float32)
    device = EmulatedDevice(replace(SMALL, multiprocessors=multiprocessors))
    (found,) = summed(array, "float32", device)
    assert_array_equal(found, array.sum(axis=0))
    assert len(device.launches) == 2


def test_the_order_of_threads_changes_no_bit():
    array = np.random.default_rng(2).standard_normal((1111, 40)).astype(np.float32)
    results = [summed(array, "float32", EmulatedDevice(order=order, seed=seed))[0] for order, seed in ORDERS]
    for found in results[1:]:
        assert_array_equal(found, results[0])


def test_the_barrier_is_needed():
    """Without it, some order of threads gives another result."""
    array = np.random.default_rng(3).integers(-9, 10, (64, 1100)).astype(np.float32)
    text, barrier = source.column_sums("float32", "float32").source, "arch::block_barrier();"
    *_, body = text.partition("struct ColumnSums")
    assert body.count(barrier) == 1
    libraries = compile_units([text, text.replace(body, body.replace(barrier, ""))])
    wrong = []
    for library in libraries:
        devices = [
            EmulatedDevice(order=order, seed=seed, library_of=lambda _, it=library: it) for order, seed in ORDERS
        ]
        results = [summed(array, "float32", device)[0] for device in devices]
        wrong.append(sum(not np.array_equal(found, array.sum(axis=0)) for found in results))
    assert wrong[0] == 0
    assert wrong[1] > 0
