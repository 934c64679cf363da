"""Masks: rows that end early, begin late, have holes, or do not count at all."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.keras_pairs import B, T, assert_same, data, pair

import rnn_gpu.keras
from rnn_gpu.errors import ArgumentError

_LENGTHS = np.array([7, 3, 5, 1, 7, 7, 2, 6])
MASKS = {
    "right padding": np.arange(T) < _LENGTHS[:, None],
    "left padding": np.arange(T) >= T - _LENGTHS[:, None],
    "holes": np.random.default_rng(0).random((B, T)) < 0.6,
    "a row of nothing": np.arange(T) < np.where(np.arange(B) == 2, 0, _LENGTHS)[:, None],
}
OPTIONS = {
    "last": {},
    "sequences": {"return_sequences": True, "return_state": True},
    "zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "backwards": {"return_sequences": True, "go_backwards": True},
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.3},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_mask(name, mask, options):
    assert_same(name, OPTIONS[options], MASKS[mask])


@pytest.mark.parametrize("shape", [(B, T - 2), (B - 1, T), (B,)], ids=str)
def test_a_mask_of_another_shape_is_refused(shape):
    """Keras puts the message in an error of its own, with the layer's arguments."""
    with pytest.raises((ArgumentError, RuntimeError), match=r"mask: expected shape \(B, T\) = .*, got shape"):
        rnn_gpu.keras.LSTM(3)(data(), mask=np.ones(shape, bool))


def test_an_initial_state_with_a_mask():
    theirs, mine = (package.GRU(3, return_state=True) for package in (keras.layers, rnn_gpu.keras))
    mask = MASKS["a row of nothing"]
    x, state = data(mask), np.random.default_rng(1).normal(size=(B, 3)).astype("float32")
    theirs(x)
    mine(x)
    mine.set_weights(theirs.get_weights())
    for a, b in zip(*(layer(x, initial_state=state, mask=mask) for layer in (mine, theirs)), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=1e-6)


def test_masks_pass_through_embedding_and_layers():
    words = np.array([[3, 1, 2, 0, 0], [1, 0, 0, 0, 0], [2, 2, 1, 3, 1]])
    outputs = []
    for package in (keras.layers, rnn_gpu.keras):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([
            keras.layers.Embedding(4, 3, mask_zero=True), package.LSTM(4, return_sequences=True), package.GRU(2),
        ])  # fmt: skip
        outputs.append(model.predict(words, verbose=0))
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-6)


def test_what_is_masked_is_not_read():
    _, mine = pair("LSTM", {})
    layer, mask = mine.layers[-1], MASKS["right padding"]
    x = data()
    expected = layer(x, mask=mask).detach().numpy()
    x[~mask] = np.nan
    np.testing.assert_array_equal(layer(x, mask=mask).detach().numpy(), expected)
