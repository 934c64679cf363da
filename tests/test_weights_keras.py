"""Weights read from Keras' lists compute what Keras' layers compute.

Keras' equations are written out here as keras.src.layers.rnn has them (3.15), on its own layout.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.weights import from_keras, init_weights, to_keras

STEPS, BATCH, INPUTS, HIDDEN = 6, 4, 3, 5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn(weights, x, h, activation):
    kernel, recurrent_kernel, bias = weights
    outputs = []
    for x_t in x:
        h = activation(x_t @ kernel + bias + h @ recurrent_kernel)
        outputs.append(h)
    return np.stack(outputs), [h]


def lstm(weights, x, h, c):
    kernel, recurrent_kernel, bias = weights
    outputs = []
    for x_t in x:
        z0, z1, z2, z3 = np.split(x_t @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
        c = sigmoid(z1) * c + sigmoid(z0) * np.tanh(z2)
        h = sigmoid(z3) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), [h, c]


def gru(weights, x, h, reset_after):
    kernel, recurrent_kernel, bias = weights
    input_bias, recurrent_bias = bias if reset_after else (bias, np.zeros_like(bias))
    units = h.shape[1]
    outputs = []
    for x_t in x:
        x_z, x_r, x_h = np.split(x_t @ kernel + input_bias, 3, axis=1)
        inner = h @ recurrent_kernel + recurrent_bias
        z = sigmoid(x_z + inner[:, :units])
        r = sigmoid(x_r + inner[:, units : 2 * units])
        recurrent_h = r * inner[:, 2 * units :] if reset_after else (r * h) @ recurrent_kernel[:, 2 * units :]
        h = z * h + (1 - z) * np.tanh(x_h + recurrent_h)
        outputs.append(h)
    return np.stack(outputs), [h]


LAYERS = {
    "rnn": lambda weights, x, h: simple_rnn(weights, x, h, np.tanh),
    "rnn_relu": lambda weights, x, h: simple_rnn(weights, x, h, lambda a: np.maximum(a, 0)),
    "rnn_sigmoid": lambda weights, x, h: simple_rnn(weights, x, h, sigmoid),
    "lstm": lstm,
    "gru": lambda weights, x, h: gru(weights, x, h, reset_after=True),
    "gru_2014": lambda weights, x, h: gru(weights, x, h, reset_after=False),
}


def assert_agree(found, expected):
    (y, last, _), (expected_y, expected_last) = found, expected
    assert_allclose(y, expected_y, rtol=0, atol=1e-12)
    for state, expected_state in zip(last, expected_last, strict=True):
        assert_allclose(state, expected_state, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_are_those_of_the_layer(name):
    cell = getattr(cells, name)
    rng = np.random.default_rng(3)
    width = len(cell.gates) * HIDDEN
    shapes = [(INPUTS, width), (HIDDEN, width), (2, width) if name == "gru" else (width,)]
    listed = [rng.standard_normal(shape) / np.sqrt(HIDDEN) for shape in shapes]
    x = rng.standard_normal((STEPS, BATCH, INPUTS))
    initial = tuple(rng.standard_normal((BATCH, HIDDEN)) for _ in cell.states)
    assert_agree(rnn_gpu.forward(cell, x, from_keras(cell, listed), initial), LAYERS[name](listed, x, *initial))


@pytest.mark.parametrize("name", LAYERS)
def test_merged_biases_change_no_output(name):
    cell = getattr(cells, name)
    rng = np.random.default_rng(4)
    weights = init_weights(cell, INPUTS, HIDDEN, "float64")
    x = rng.standard_normal((STEPS, BATCH, INPUTS))
    initial = tuple(rng.standard_normal((BATCH, HIDDEN)) for _ in cell.states)
    assert_agree(rnn_gpu.forward(cell, x, weights, initial), LAYERS[name](to_keras(cell, weights), x, *initial))
