"""Variants of a cell: the same text with other functions, another order of gates, another output, masked products."""

from __future__ import annotations

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.compiler.language import clip, relu, sigmoid
from rnn_gpu.compiler.variants import with_functions, with_gates, with_masked_products, with_output
from rnn_gpu.errors import ArgumentError

T, B, I, H = 5, 3, 4, 6


@pytest.fixture(autouse=True)
def _reference_backend(monkeypatch):
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")


def drawn(cell, seed=0):
    x = np.random.default_rng(seed).normal(size=(T, B, I))
    return x, rnn_gpu.init_weights(cell, I, H, dtype="float64", seed=seed)


def test_other_functions():
    changed = with_functions(cells.rnn, "rnn_changed", {"tanh": relu})
    x, weights = drawn(cells.rnn)
    found, expected = (rnn_gpu.forward(cell, x, weights).y for cell in (changed, cells.rnn_relu))
    np.testing.assert_array_equal(found, expected)
    assert changed.name == "rnn_changed"
    assert "tanh" in cells.rnn.source("python")
    with pytest.raises(ArgumentError, match="functions: expected names that cell rnn uses, got 'sigmoid'"):
        with_functions(cells.rnn, "none", {"sigmoid": sigmoid})


def test_other_functions_in_every_place():
    changed = with_functions(cells.lstm, "hard", {"sigmoid": lambda x: clip(0.25 * x + 0.5, 0.0, 1.0), "tanh": relu})
    x, weights = drawn(cells.lstm)
    h, c = np.zeros((2, B, H))
    for x_t in x:
        i, f, g, o = np.split(x_t @ weights.w_ih.T + weights.b_ih + h @ weights.w_hh.T + weights.b_hh, 4, axis=1)
        i, f, o = (np.clip(0.25 * gate + 0.5, 0, 1) for gate in (i, f, o))
        c = f * c + i * np.maximum(g, 0)
        h = o * np.maximum(c, 0)
    found = rnn_gpu.forward(changed, x, weights).last
    np.testing.assert_allclose(found[0], h, rtol=1e-12)
    np.testing.assert_allclose(found[1], c, rtol=1e-12)


def test_another_order_of_gates():
    changed = with_gates(cells.gru, "zrn")
    x, weights = drawn(cells.gru)
    order = np.arange(3 * H).reshape(3, H)[[1, 0, 2]].ravel()
    found = rnn_gpu.forward(changed, x, weights.map(lambda array: array[order])).y
    np.testing.assert_allclose(found, rnn_gpu.forward(cells.gru, x, weights).y, rtol=1e-12)
    assert changed.digest != cells.gru.digest
    with pytest.raises(ArgumentError, match="gates: expected those of cell gru, r z n, got r z"):
        with_gates(cells.gru, "rz")


@pytest.mark.parametrize("name", ["lstm", "lstm_peephole", "lstm_1997"])
def test_another_output(name):
    cell = cells.ALL[name]
    changed = with_output(cell, "c")
    assert changed.states == ("c", "h")
    assert with_output(cell, "c") is changed
    x, weights = drawn(cell)
    y, (_, h), _ = rnn_gpu.forward(changed, x, weights)
    for t in range(T):
        expected = rnn_gpu.forward(cell, x[: t + 1], weights).last
        np.testing.assert_allclose(y[t], expected[1], rtol=1e-12)
    np.testing.assert_allclose(h, expected[0], rtol=1e-12)
    assert changed.vectors == cell.vectors
    assert changed.forget == cell.forget


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_2014"])
def test_masked_products(name):
    """A mask for each gate is that gate's recurrent matrix with scaled columns, where all rows have one mask."""
    cell = cells.ALL[name]
    changed = with_masked_products(cell, tuple((gate, f"mask_{gate}") for gate in cell.recurrent_gates))
    x, weights = drawn(cell)
    rng = np.random.default_rng(1)
    masks = rng.uniform(size=(len(cell.gates), H))
    states = tuple(rng.normal(size=(len(cell.states), B, H)))
    initial = (*states, *(np.broadcast_to(mask, (B, H)) for mask in masks))
    found = rnn_gpu.forward(changed, x, weights, initial)
    scaled = rnn_gpu.Weights(weights.w_ih, weights.w_hh * np.repeat(masks, H, axis=0), weights.b_ih, weights.b_hh)
    expected = rnn_gpu.forward(cell, x, scaled, states)
    np.testing.assert_allclose(found.y, expected.y, rtol=1e-12)
    for mask, after in zip(masks, found.last[len(states) :], strict=True):
        np.testing.assert_array_equal(after, np.broadcast_to(mask, (B, H)))
    gradients, others = (rnn_gpu.backward(run.tape, np.ones_like(run.y)) for run in (found, expected))
    np.testing.assert_allclose(gradients.x, others.x, rtol=1e-10, atol=1e-12)
