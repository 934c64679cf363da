"""A model with one of Keras' layers, and the same with ours: their outputs, and their weights after some steps."""

from __future__ import annotations

import re

import keras
import numpy as np

import rnn_gpu.keras

__all__ = ["B", "H", "I", "T", "assert_same", "assert_same_loop", "data", "model", "pair", "weights_after"]

T, B, I, H = 7, 8, 4, 5


def data(mask=None, seed=0):
    """x (B, T, I), zero where the mask (B, T) is False, which is what a Masking layer looks for."""
    x = np.random.default_rng(seed).normal(size=(B, T, I)).astype("float32")
    return x if mask is None else np.where(mask[:, :, None], x, 0).astype("float32")


def model(package, name, options, masking=False, wrap=lambda layer: layer):
    """A compiled model with the layer of that name, drawn with a fixed seed; it has all of the layer's outputs."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input(batch_shape=(B, T, I))
    below = keras.layers.Masking(0.0)(inputs) if masking else inputs
    found = wrap(getattr(package, name)(H, **{"seed": 1, **options}))(below)
    outputs = list(found) if isinstance(found, list | tuple) else [found]
    made = keras.Model(inputs, outputs)
    made.compile(keras.optimizers.SGD(0.1), loss=["mse"] * len(outputs))
    return made


def pair(name, options, mask=None, wrap=lambda layer: layer):
    """Keras' model and ours, with the same weights."""
    theirs, mine = (model(p, name, options, mask is not None, wrap) for p in (keras.layers, rnn_gpu.keras))
    for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    # Keras counts up the names of the layers themselves.
    found, expected = ([re.sub(r"_\d+", "", w.path) for w in each.weights] for each in (mine, theirs))
    assert found == expected
    return theirs, mine


def weights_after(made, x, steps=3):
    """The weights after some steps of training towards fixed numbers."""
    rng = np.random.default_rng(5)
    y = [rng.normal(size=output.shape).astype("float32") for output in made.outputs]
    made.fit(x, y if len(y) > 1 else y[0], epochs=steps, batch_size=B, shuffle=False, verbose=0)
    return made.get_weights()


def assert_same(name, options, mask=None, wrap=lambda layer: layer):
    """Same outputs before, and same weights after training, to 1e-5."""
    _assert_same(*pair(name, options, mask, wrap), data(mask))


def assert_same_loop(own, cell_options, options, mask=None):
    """The same of a layer of any cell, and Keras' own loop over its steps."""
    theirs, mine = (_of_cell(p, own, cell_options, options, mask is not None) for p in (keras.layers, rnn_gpu.keras))
    _assert_same(theirs, mine, data(mask))


def _of_cell(package, own, cell_options, options, masking):
    keras.utils.set_random_seed(3)
    inputs = keras.Input(batch_shape=(B, T, I))
    below = keras.layers.Masking(0.0)(inputs) if masking else inputs
    found = package.RNN(rnn_gpu.keras.RNNCell(own, H, seed=1, **cell_options), **options)(below)
    outputs = list(found) if isinstance(found, list | tuple) else [found]
    made = keras.Model(inputs, outputs)
    made.compile(keras.optimizers.SGD(0.1), loss=["mse"] * len(outputs))
    return made


def _assert_same(theirs, mine, x):
    for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    found, expected = (each.predict(x, batch_size=B, verbose=0) for each in (mine, theirs))
    if not isinstance(found, list):
        found, expected = [found], [expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    before = mine.get_weights()
    found, expected = weights_after(mine, x), weights_after(theirs, x)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(found, before, strict=True))
