"""Memory that is kept for the next call: never two arrays in one place, never more than agreed."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.kernels.numba_cpu import memory

F32 = np.dtype(np.float32)
COUNT = 1 << 16


@pytest.fixture(autouse=True)
def _nothing_kept():
    gc.collect()
    memory.release()
    yield
    memory.release()


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_view_is_gone():
    array = memory.empty(COUNT, F32)
    where = address(array)
    view = array.reshape(16, -1)[3:, ::2]
    del array
    other = memory.empty(COUNT, F32)
    assert address(other) != where
    del view
    assert address(memory.empty(COUNT, F32)) == where


def test_arrays_that_live_at_once_do_not_overlap():
    arrays = [memory.empty(COUNT + 1000 * k, F32) for k in range(8)]
    for k, array in enumerate(arrays):
        array[:] = k
    for k, array in enumerate(arrays):
        assert array.size == COUNT + 1000 * k
        assert (array == k).all()


def test_no_more_is_kept_than_agreed(monkeypatch):
    monkeypatch.setattr(memory, "MOST_KEPT", 3 * 4 * COUNT)
    arrays = [memory.empty(COUNT, F32) for _ in range(8)]
    del arrays
    assert sum(block.size for blocks in memory._free.values() for block in blocks) == memory._kept == 3 * 4 * COUNT


def test_what_is_no_longer_asked_for_goes_first(monkeypatch):
    monkeypatch.setattr(memory, "MOST_KEPT", 3 * 4 * COUNT)
    arrays = [memory.empty(COUNT, F32) for _ in range(3)]
    del arrays
    for _ in range(2):  # of another size: kept at the expense of the others, and had again
        array = memory.empty(2 * COUNT, F32)
        where = address(array)
        del array
        assert address(memory.empty(2 * COUNT, F32)) == where
    assert memory._kept <= 3 * 4 * COUNT
    huge = memory.empty(4 * COUNT, F32)  # more than may be kept at all: nothing is given up for it
    del huge
    assert address(memory.empty(2 * COUNT, F32)) == where


def test_nothing_is_kept_once_the_interpreter_ends():
    """Arrays that live until then come to their end when this module's own names may be gone."""
    lent = memory.empty(COUNT, F32)
    while not isinstance(lent, memory._Lent):
        lent = lent.base
    lent.__del__(lambda: True)
    assert memory._kept == 0
    lent.__del__(lambda: False)
    assert memory._kept == 4 * COUNT
    lent.block = None


def test_zeros_are_zero_where_memory_was_used_before():
    memory.empty(COUNT, F32)[:] = 1
    assert not memory.zeros(COUNT, F32).any()


def test_small_arrays_are_left_to_numpy():
    assert memory.empty(100, F32).base is None


def test_results_of_a_call_outlive_the_next_ones():
    weights = rnn_gpu.init_weights(cells.rnn, 64, 64)
    x = np.random.default_rng(0).standard_normal((32, 16, 64), dtype=np.float32)
    y, _, tape = rnn_gpu.forward(cells.rnn, x, weights, backend="numba_cpu")
    gradients = rnn_gpu.backward(tape, y)
    kept = [y.copy(), gradients.x.copy(), gradients.weights.w_hh.copy()]
    for _ in range(3):
        again = rnn_gpu.forward(cells.rnn, 2 * x, weights, backend="numba_cpu")
        rnn_gpu.backward(again.tape, 3 * again.y)
        del again
    for array, copy in zip([y, gradients.x, gradients.weights.w_hh], kept, strict=True):
        np.testing.assert_array_equal(array, copy)
