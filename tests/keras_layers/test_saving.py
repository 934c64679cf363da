"""Saved and loaded models, wrappers, and what the package says of itself."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.keras_pairs import B, I, T, assert_same, data, model

import rnn_gpu.keras

NAMES = ("SimpleRNN", "LSTM", "GRU")


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model(name, tmp_path):
    options = {"return_sequences": True, "dropout": 0.2, "recurrent_dropout": 0.1, "activation": "relu"}
    made = model(rnn_gpu.keras, name, options)
    path = tmp_path / "model.keras"
    made.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.layers[-1]) is getattr(rnn_gpu.keras, name)
    assert loaded.layers[-1].get_config() == made.layers[-1].get_config()
    np.testing.assert_array_equal(loaded.predict(data(), verbose=0), made.predict(data(), verbose=0))


def test_a_model_loads_where_only_the_package_was_imported(tmp_path):
    made = model(rnn_gpu.keras, "GRU", {})
    made.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", data())
    code = (
        "import keras, numpy as np, rnn_gpu.keras\nm = keras.saving.load_model('model.keras')\n"
        "np.save('y.npy', m.predict(np.load('x.npy'), verbose=0))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), made.predict(data(), verbose=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_weights_files_go_both_ways(name, tmp_path):
    path = tmp_path / "w.weights.h5"
    theirs, mine = model(keras.layers, name, {}), model(rnn_gpu.keras, name, {})
    theirs.save_weights(path)
    mine.set_weights([np.zeros_like(array) for array in mine.get_weights()])
    mine.load_weights(path)
    np.testing.assert_allclose(mine.predict(data(), verbose=0), theirs.predict(data(), verbose=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_configurations(name):
    layer = getattr(rnn_gpu.keras, name)(3, seed=1, go_backwards=True, name="it")
    config = json.loads(json.dumps(layer.get_config()))
    assert config == getattr(keras.layers, name)(3, seed=1, go_backwards=True, name="it").get_config()
    assert type(layer).from_config(config).get_config() == layer.get_config()
    assert keras.models.clone_model(model(rnn_gpu.keras, name, {})).layers[-1].__class__ is type(layer)


@pytest.mark.parametrize("merge", ["concat", "sum", None])
@pytest.mark.parametrize("masked", [False, True])
def test_bidirectional(merge, masked):
    mask = np.arange(T) < np.array([7, 3, 5, 1, 7, 7, 2, 6])[:, None] if masked else None

    def wrap(layer):
        return keras.layers.Bidirectional(layer, merge_mode=merge)

    assert_same("LSTM", {"return_sequences": True}, mask, wrap)
    assert_same("GRU", {"dropout": 0.2}, mask, wrap)


def test_time_distributed():
    outputs = []
    for package in (keras.layers, rnn_gpu.keras):
        keras.utils.set_random_seed(0)
        made = keras.Sequential([keras.Input((3, T, I)), keras.layers.TimeDistributed(package.SimpleRNN(4))])
        x = np.random.default_rng(0).normal(size=(B, 3, T, I))
        made.compile("sgd", "mse")
        made.fit(x, np.ones((B, 3, 4)), epochs=2, verbose=0, shuffle=False)
        outputs.append(made.predict(x, verbose=0))
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)


def test_models_saved_with_keras_layers_run_on_ours(tmp_path):
    path = tmp_path / "theirs.keras"
    theirs = model(keras.layers, "LSTM", {"return_sequences": True})
    theirs.save(path)
    mine = keras.models.clone_model(
        keras.saving.load_model(path),
        clone_function=lambda layer: (
            rnn_gpu.keras.LSTM.from_config(layer.get_config())
            if type(layer) is keras.layers.LSTM
            else type(layer).from_config(layer.get_config())
        ),
    )
    mine.set_weights(theirs.get_weights())
    np.testing.assert_allclose(mine.predict(data(), verbose=0), theirs.predict(data(), verbose=0), rtol=0, atol=1e-6)


def test_a_backend_of_keras_that_is_not_known(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(rnn_gpu.errors.BackendError, match="torch, jax, tensorflow; Keras is configured for numpy"):
        rnn_gpu.keras.engines.run(None, None, {}, [], None)


def test_without_keras_the_error_says_what_to_install():
    code = "import sys; sys.modules['keras'] = None\nimport rnn_gpu\nimport rnn_gpu.keras"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    message = "ModuleNotFoundError: rnn_gpu.keras needs Keras 3, which is not installed: pip install 'rnn_gpu[keras]'"
    assert run.stderr.strip().splitlines()[-1] == message
