"""A step is a sequence of one: the same bits, whatever the weights' form, the threads, the shapes and who calls."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, tanh
from rnn_gpu.kernels.numba_cpu import crew
from rnn_gpu.kernels.numba_cpu.host import TRAITS
from rnn_gpu.threads import set_threads

pytestmark = pytest.mark.usefixtures("even_small_calls_are_shared")

BACKEND = "numba_cpu"
PANEL = TRAITS.panel(4)


@cell(gates="abc", states="hc")
def mixed(Wx, U, h, c):
    """Two stages, the second with two gates, declared before the first's."""
    b = tanh(Wx.b + U.b(h))
    return tanh(Wx.a + U.a(b * h)) + c, tanh(Wx.c + U.c(b * h))


def steps(chosen, x, weights, state=None):
    found = []
    for x_t in x:
        state = rnn_gpu.step(chosen, x_t, weights, state, backend=BACKEND)
        found.append(state)
    return found


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("H", [1, 19, PANEL, 2 * PANEL, 3 * PANEL - 5])
@pytest.mark.parametrize("chosen", [cells.lstm, cells.gru_2014, mixed, cells.indrnn], ids=lambda chosen: chosen.name)
def test_steps_are_the_sequence(chosen, H, threads):
    set_threads(threads)
    rng = np.random.default_rng(H)
    for B in (1, 3, 8):
        weights = rnn_gpu.init_weights(chosen, 5, H, seed=B)
        x = rng.standard_normal((4, B, 5), dtype=np.float32)
        y, last, _ = rnn_gpu.forward(chosen, x, weights, backend=BACKEND)
        for form in (weights, weights.frozen()):
            found = steps(chosen, x, form)
            np.testing.assert_array_equal([state[0] for state in found], y)
            for state, expected in zip(found[-1], last, strict=True):
                np.testing.assert_array_equal(state, expected)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes(dtype):
    weights = rnn_gpu.init_weights(cells.lstm_peephole, 6, PANEL, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((3, 2, 6)).astype(weights.w_ih.dtype)
    _, last, _ = rnn_gpu.forward(cells.lstm_peephole, x, weights, backend=BACKEND)
    for form in (weights, weights.frozen()):
        found = steps(cells.lstm_peephole, x, form)[-1]
        for state, expected in zip(found, last, strict=True):
            assert state.dtype == expected.dtype
            np.testing.assert_array_equal(state, expected)


def test_x_that_is_projected_already():
    rng = np.random.default_rng(0)
    for H in (19, 2 * PANEL):
        weights = rnn_gpu.init_weights(cells.gru, 5, H)
        weights = rnn_gpu.Weights(None, weights.w_hh, weights.b_ih, weights.b_hh)
        x = rng.standard_normal((4, 2, 3 * H), dtype=np.float32)
        y = rnn_gpu.forward(cells.gru, x, weights, backend=BACKEND).y
        for form in (weights, weights.frozen()):
            np.testing.assert_array_equal([state[0] for state in steps(cells.gru, x, form)], y)


def test_weights_may_change_between_steps():
    weights = rnn_gpu.init_weights(cells.lstm, 5, 2 * PANEL)
    x = np.random.default_rng(0).standard_normal((1, 1, 5), dtype=np.float32)
    steps(cells.lstm, x, weights)
    weights.w_ih[:] *= 2
    weights.w_hh[:] += 1
    weights.b_hh[:] = 3
    state = (np.full((1, 2 * PANEL), 0.5, np.float32),) * 2
    expected = rnn_gpu.forward(cells.lstm, x, weights, state, backend=BACKEND).last
    for found, wanted in zip(steps(cells.lstm, x, weights, state)[0], expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_arrays_of_any_layout_are_read_and_none_is_written():
    H = PANEL
    weights = rnn_gpu.init_weights(cells.lstm, 6, H)
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal((2, size), dtype=np.float32) for size in (6, H, H))
    expected = rnn_gpu.step(cells.lstm, x, weights, (h, c), backend=BACKEND)

    def unusual(array):
        strided = np.zeros((array.shape[0], 2 * array.shape[1]), array.dtype)[:, ::2]
        strided[:] = array
        strided.setflags(write=False)
        return strided

    given = [unusual(array) for array in (x, h, c)]
    foreign = x.astype(x.dtype.newbyteorder())
    for x_t in (given[0], foreign):
        found = rnn_gpu.step(cells.lstm, x_t, weights, tuple(given[1:]), backend=BACKEND)
        for state, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(state, wanted)
    for before, after in zip((x, h, c), given, strict=True):
        np.testing.assert_array_equal(before, after)


def test_no_rows():
    weights = rnn_gpu.init_weights(cells.lstm, 5, PANEL)
    for form in (weights, weights.frozen()):
        found = rnn_gpu.step(cells.lstm, np.zeros((0, 5), np.float32), form, backend=BACKEND)
        assert [state.shape for state in found] == [(0, PANEL)] * 2


def test_earlier_results_stay_as_they_are():
    weights = rnn_gpu.init_weights(cells.lstm, 5, PANEL).frozen()
    x = np.random.default_rng(0).standard_normal((6, 1, 5), dtype=np.float32)
    found = steps(cells.lstm, x, weights)
    copies = [[array.copy() for array in state] for state in found]
    steps(cells.lstm, x[::-1], weights)
    for state, copy in zip(found, copies, strict=True):
        for array, kept in zip(state, copy, strict=True):
            np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("frozen", [False, True])
def test_many_threads_of_the_caller_step_at_once(frozen):
    set_threads(2)
    weights = rnn_gpu.init_weights(cells.lstm, 8, 2 * PANEL)
    x = np.random.default_rng(0).standard_normal((8, 10, 1, 8), dtype=np.float32)
    expected = [rnn_gpu.forward(cells.lstm, sequence, weights, backend=BACKEND).y for sequence in x]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            own = weights.frozen() if frozen else weights  # not packed yet: all want to be the first
            found = list(pool.map(lambda sequence: [state[0] for state in steps(cells.lstm, sequence, own)], x))  # noqa: B023
            for wanted, got in zip(expected, found, strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_a_step_wakes_a_sleeping_thread_and_does_not_wait_for_it():
    set_threads(2)
    weights = rnn_gpu.init_weights(cells.lstm, 5, 2 * PANEL)
    x = np.random.default_rng(0).standard_normal((1, 1, 5), dtype=np.float32)
    expected = steps(cells.lstm, x, weights)[0]
    helper = crew._helpers[0]
    deadline = time.monotonic() + 60
    while not helper.asleep:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    calls = int(crew._board[0])
    found = steps(cells.lstm, x, weights)[0]
    assert int(crew._board[0]) == calls  # nobody else was called upon
    for state, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(state, wanted)
    deadline = time.monotonic() + 60
    while int(crew._board[0]) == calls:  # once it is awake it takes part
        steps(cells.lstm, x, weights)
        assert time.monotonic() < deadline
