"""Keras' other backends, in processes of their own. They are not among the packages that the tests install."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import keras, numpy as np, rnn_gpu.keras
from rnn_gpu import cells
from support.keras_pairs import B, T, I, assert_same, assert_same_loop
holes = np.random.default_rng(0).random((B, T)) < 0.6
for name in ("SimpleRNN", "LSTM", "GRU"):
    assert_same(name, {})
    for mask in (None, holes):
        dropout = {"dropout": 0.3, "recurrent_dropout": 0.4}
        assert_same(name, {"return_sequences": True, "go_backwards": True, "return_state": True, **dropout}, mask)
assert_same("LSTM", {"return_sequences": True}, holes, keras.layers.Bidirectional)
assert_same_loop(cells.lstm_peephole, {"recurrent_dropout": 0.4}, {"return_sequences": True}, holes)
assert_same_loop(cells.indrnn, {"dropout": 0.3}, {"return_state": True})
model = keras.Sequential([keras.Input((None, 3)), rnn_gpu.keras.GRU(64, return_sequences=True), rnn_gpu.keras.LSTM(64)])
model.compile("sgd", "mse")
model.fit(np.ones((64, 50, 3)), np.ones((64, 64)), verbose=0, epochs=2)
print("the same on", keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the package {backend} is not installed")
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert f"the same on {backend}" in run.stdout
