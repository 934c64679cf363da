"""Backward in blocks of steps: more than one block, threads without rows, rows of one's own lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells, problem
from rnn_gpu.kernels.numba_cpu import shares
from rnn_gpu.kernels.numba_cpu.host import TRAITS
from rnn_gpu.kernels.numba_cpu.layout import full_layout
from rnn_gpu.kernels.numba_cpu.packing import KeptWeights
from rnn_gpu.kernels.numba_cpu.plan import plan_of
from rnn_gpu.problem import describe
from rnn_gpu.threads import set_threads


@pytest.fixture(autouse=True)
def _small_calls_are_shared_by_rows(monkeypatch):
    monkeypatch.setattr(shares, "WORTH_A_THREAD", 1)
    problem.forget()
    yield
    problem.forget()
    set_threads(None)


def gradients_of(cell, x, weights, dy, backend="numba_cpu", **options):
    _, last, tape = rnn_gpu.forward(cell, x, weights, backend=backend, **options)
    gradients = rnn_gpu.backward(tape, dy, tuple(np.ones_like(state) for state in last))
    return [gradients.x, *gradients.initial, *(array for _, array in gradients.weights.items())]


def drawn(cell, T, B, I, H, projected=False):
    rng = np.random.default_rng(0)
    weights = rnn_gpu.init_weights(cell, None if projected else I, H, dtype="float64", seed=0)
    inputs = len(cell.input_gates) * H if projected else I
    x, dy = (rng.standard_normal((T, B, n)) for n in (inputs, H))
    return x, weights, dy, {"lengths": rng.integers(0, T + 1, B), "resets": rng.random((T, B)) < 0.01}


@pytest.mark.parametrize(
    "shape", [(1300, 1, 3, 18), (400, 3, 5, 7), (30, 40, 4, 16), (3, 700, 2, 5), (300, 3, 70, 70)], ids=str
)
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru, cells.gru_2014, cells.lstm_peephole], ids=lambda c: c.name)
def test_blocks_give_the_gradients_whoever_makes_them(cell, shape):
    for projected in (False, True):
        x, weights, dy, options = drawn(cell, *shape, projected=projected)
        for chosen in ({}, options, {"reverse": True, "recompute": True, **options}):
            expected = gradients_of(cell, x, weights, dy, "numpy_cpu", **chosen)
            set_threads(1)
            alone = gradients_of(cell, x, weights, dy, **chosen)
            for reference, got in zip(expected, alone, strict=True):
                bound = 1e-12 * max(1.0, np.abs(reference).max())
                np.testing.assert_allclose(got, reference, rtol=0, atol=bound)
            for threads in (2, 5):
                set_threads(threads)
                for one, shared in zip(alone, gradients_of(cell, x, weights, dy, **chosen), strict=True):
                    np.testing.assert_array_equal(one, shared)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru_2014], ids=lambda c: c.name)
def test_blocks_of_a_team_over_the_hidden_units(cell, recompute, monkeypatch):
    monkeypatch.setattr(shares, "WORTH_A_TEAM", 1)
    x, weights, dy, options = drawn(cell, 700, 2, 3, 2 * TRAITS.panel(8) - 3)
    for chosen in ({}, options):
        set_threads(1)
        alone = gradients_of(cell, x, weights, dy, recompute=recompute, **chosen)
        for reference, got in zip(gradients_of(cell, x, weights, dy, "numpy_cpu", **chosen), alone, strict=True):
            np.testing.assert_allclose(got, reference, rtol=0, atol=1e-12 * max(1.0, np.abs(reference).max()))
        for threads in (2, 3):
            set_threads(threads)
            shared = gradients_of(cell, x, weights, dy, recompute=recompute, **chosen)
            for one, other in zip(alone, shared, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("inputs", [1, 4, 5])
def test_gradients_over_many_rows_lose_no_digits(inputs):
    T, B, H = 2000, 50, 16
    rng = np.random.default_rng(0)
    weights = rnn_gpu.init_weights(cells.rnn, inputs, H, dtype="float64", seed=0)
    x, dy = np.abs(rng.standard_normal((T, B, inputs))), np.ones((T, B, H))  # sums that grow
    exact = gradients_of(cells.rnn, x, weights, dy)
    single = replace(weights, **{name: array.astype(np.float32) for name, array in weights.items()})
    found = gradients_of(cells.rnn, x.astype(np.float32), single, dy.astype(np.float32))
    for expected, got in zip(exact[2:], found[2:], strict=True):  # of the weights
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_backward_leaves_frozen_weights_as_they_were_packed():
    x, weights, dy, _ = drawn(cells.lstm_peephole, 6, 3, 4, 8)
    frozen = weights.frozen()
    _, _, tape = rnn_gpu.forward(cells.lstm_peephole, x, frozen, recompute=True, backend="numba_cpu")
    (kept,) = [found for found in frozen.prepared.values() if isinstance(found, KeptWeights)]
    for array in kept.packed:
        array[:] = 7.0  # what is packed once more would be other numbers
    rnn_gpu.backward(tape, dy)
    for array in kept.packed:
        assert (array == 7.0).all()


def test_what_backward_keeps_does_not_grow_with_the_steps():
    kept = []
    for T in (2000, 8000):
        x = np.zeros((T, 4, 8), np.float32)
        described, _ = describe(cells.lstm, x, rnn_gpu.init_weights(cells.lstm, 8, 16))
        share = shares.backward_shares(plan_of(described), full_layout(T, 4), 2)
        assert 0 < share.ring * share.rings <= 2 * shares.DEPTH_OVER_ROWS
        kept.append((share.work, share.rooms))
    assert kept[0] == kept[1]


def test_an_array_out_of_alignment_is_taken():
    x, weights, dy, _ = drawn(cells.lstm, 6, 3, 4, 8)
    odd = np.frombuffer(b"\0" + x.tobytes(), np.float64, offset=1).reshape(x.shape)
    assert not odd.flags.aligned
    for expected, got in zip(
        gradients_of(cells.lstm, x, weights, dy), gradients_of(cells.lstm, odd, weights, dy), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
