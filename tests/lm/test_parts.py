"""The small parts of the language model: loss, embedding, clipping, optimisers, schedule, figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnn_gpu.lm import embedding, softmax
from rnn_gpu.lm.clipping import clip_norm, global_norm
from rnn_gpu.lm.measure import figure, measure
from rnn_gpu.lm.optimizers import Adam, RMSprop
from rnn_gpu.lm.schedule import Halving


def reference_loss(y, w, b, targets):
    """Cross-entropy in long double, one row at a time."""
    total = np.longdouble(0)
    for row, target in zip(y.astype(np.longdouble), targets, strict=True):
        logits = w.astype(np.longdouble) @ row + b
        top = logits.max()
        total += top + np.log(np.sum(np.exp(logits - top))) - logits[target]
    return float(total)


@pytest.mark.parametrize("block", [1, 2**22])
def test_cross_entropy_and_its_gradients(monkeypatch, block):
    monkeypatch.setattr(softmax, "_BLOCK", block)
    rng = np.random.default_rng(0)
    y, w, b = rng.normal(size=(7, 4)), rng.normal(size=(5, 4)), rng.normal(size=5)
    targets = rng.integers(0, 5, 7).astype(np.int32)
    assert softmax.cross_entropy(y, w, b, targets) == pytest.approx(reference_loss(y, w, b, targets), rel=1e-14)
    found = softmax.cross_entropy_gradients(y, w, b, targets, scale=0.25)
    assert found.loss == softmax.cross_entropy(y, w, b, targets)
    for array, gradient in ((y, found.y), (w, found.w), (b, found.b)):
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + 1e-6
            above = softmax.cross_entropy(y, w, b, targets)
            array[index] = kept - 1e-6
            below = softmax.cross_entropy(y, w, b, targets)
            array[index] = kept
            assert gradient[index] == pytest.approx(0.25 * (above - below) / 2e-6, rel=1e-6, abs=1e-8)


def test_cross_entropy_of_huge_logits_is_finite_and_right():
    y, w, b = np.full((3, 1), 1e4, np.float32), np.array([[1], [-1], [0.5]], np.float32), np.zeros(3, np.float32)
    targets = np.array([0, 1, 2], np.int32)
    found = softmax.cross_entropy_gradients(y, w, b, targets, scale=1.0)
    assert found.loss == 25_000.0
    assert all(np.isfinite(array).all() for array in (found.y, found.w, found.b))
    assert found.y.dtype == found.w.dtype == found.b.dtype == np.float32


def test_loss_of_many_float32_rows_is_summed_in_float64():
    rng = np.random.default_rng(1)
    y, w = rng.normal(size=(20_000, 8)).astype(np.float32), rng.normal(size=(30, 8)).astype(np.float32)
    b, targets = np.zeros(30, np.float32), rng.integers(0, 30, 20_000).astype(np.int32)
    exact = softmax.cross_entropy(y.astype(np.float64), w.astype(np.float64), b.astype(np.float64), targets)
    assert softmax.cross_entropy(y, w, b, targets) == pytest.approx(exact, rel=2e-8)


def test_embedding_gradient_adds_up_equal_tokens_and_leaves_absent_ones_zero():
    rng = np.random.default_rng(2)
    ids, dx = rng.integers(0, 6, 40).astype(np.int32), rng.normal(size=(40, 3))
    ids[ids == 4] = 5
    expected = np.zeros((8, 3))
    np.add.at(expected, ids, dx)
    found = embedding.gradient(ids, dx, 8)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
    assert not found[[4, 6, 7]].any()
    assert np.array_equal(found, embedding.gradient(ids, dx, 8))


def test_clipping_scales_to_the_limit_and_keeps_the_direction():
    rng = np.random.default_rng(3)
    gradients = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=5)}
    before = {name: array.copy() for name, array in gradients.items()}
    norm = math.sqrt(sum((array**2).sum() for array in before.values()))
    assert clip_norm(gradients, 2 * norm) == pytest.approx(norm)
    assert all(np.array_equal(gradients[name], before[name]) for name in before)
    assert clip_norm(gradients, norm / 3) == pytest.approx(norm)
    assert global_norm(gradients.values()) == pytest.approx(norm / 3)
    np.testing.assert_allclose(gradients["a"], before["a"] / 3, rtol=1e-14)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_clipping_reports_a_norm_that_is_not_finite(bad):
    gradients = {"a": np.array([1.0, bad]), "b": np.array([2.0])}
    assert not math.isfinite(clip_norm(gradients, 1.0))
    assert gradients["b"][0] == 2.0


def test_norm_of_large_float32_values_does_not_overflow():
    assert global_norm([np.full(4, 1e30, np.float32)]) == pytest.approx(2e30, rel=1e-6)


def test_adam_follows_algorithm_1():
    rng = np.random.default_rng(4)
    parameter, gradients = rng.normal(size=6), rng.normal(size=(5, 6))
    expected, m, v = parameter.copy(), np.zeros(6), np.zeros(6)
    optimizer = Adam({"p": parameter})
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected -= 0.01 * (m / (1 - 0.9**t)) / np.sqrt(v / (1 - 0.999**t))
        optimizer.step({"p": parameter}, {"p": g}, 0.01)
    np.testing.assert_allclose(parameter, expected, rtol=1e-6)


def test_rmsprop_follows_its_definition():
    rng = np.random.default_rng(5)
    parameter, gradients = rng.normal(size=6), rng.normal(size=(5, 6))
    expected, v = parameter.copy(), np.zeros(6)
    optimizer = RMSprop({"p": parameter})
    for g in gradients:
        v = 0.9 * v + 0.1 * g * g
        expected -= 0.01 * g / np.sqrt(v)
        optimizer.step({"p": parameter}, {"p": g}, 0.01)
    np.testing.assert_allclose(parameter, expected, rtol=1e-6)


@pytest.mark.parametrize("optimizer", [Adam, RMSprop])
def test_optimizers_keep_float32(optimizer):
    parameters = {"p": np.ones(3, np.float32)}
    made = optimizer(parameters)
    made.step(parameters, {"p": np.ones(3, np.float32)}, 0.1)
    assert {array.dtype for array in (*parameters.values(), *made.moments.values())} == {np.dtype(np.float32)}


def test_the_rate_is_halved_after_poor_epochs_until_patience_ends():
    schedule = Halving(rate=0.8)
    assert schedule.update(2.0)
    assert schedule.update(1.5)
    assert (schedule.rate, schedule.poor) == (0.8, 0)
    assert not schedule.update(1.6)
    assert schedule.update(1.499), "lower, though not by enough"
    assert (schedule.rate, schedule.poor, schedule.best) == (0.2, 2, 1.499)
    assert schedule.update(1.4)
    assert (schedule.rate, schedule.poor, schedule.finished) == (0.2, 0, False)
    for _ in range(Halving.patience):
        assert not schedule.finished
        schedule.update(1.4)
    assert schedule.finished


def test_figures():
    assert (measure("char"), measure("word")) == ("bits/char", "perplexity")
    assert figure("char", math.log(8)) == pytest.approx(3.0)
    assert figure("word", math.log(100)) == pytest.approx(100.0)
    assert figure("word", 1e6) == math.inf
