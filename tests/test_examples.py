"""The examples of the frameworks run and learn, with few steps. That of a cell of one's own is in test_readme."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _reference_backend(monkeypatch):
    """They are the same on every backend; the reference needs no compilation."""
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")


def example(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_keras_simple_rnn():
    losses = example("keras_simple_rnn")["main"](epochs=3, verbose=0)
    assert len(losses) == 3
    assert losses[-1] < 0.5 * losses[0]
    text = (EXAMPLES / "keras_simple_rnn.py").read_text(encoding="utf-8")
    assert "from rnn_gpu.keras import SimpleRNN" in text
    assert "keras.layers.SimpleRNN" not in text


def test_keras_side_by_side(tmp_path):
    module = example("keras_side_by_side")
    found = module["main"](epochs=3, turn=1)
    theirs, ours = found.values()
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-3)
    assert len(ours["loss"]) == 3
    assert all(seconds > 0 for each in found.values() for seconds in (each["first_s"], each["others_s"]))
    module["draw"](found, tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


def test_sunspots():
    losses, network, persistence = example("torch_sunspots")["main"](updates=60)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:3])
    assert network < 0.8 * persistence


def test_punctuation():
    module = example("torch_punctuation")
    rows = module["sentences"]()
    assert len({len(words) for words, _ in rows}) > 20
    losses, found, right = module["main"](updates=12, rows_a_batch=8)
    assert np.mean(losses[-3:]) < 0.6 * losses[0]
    assert 0 <= found <= 1
    assert 0 <= right <= 1


def test_replace(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    report, (theirs, ours), losses, seconds = example("torch_replace")["main"](updates=3, rows_a_batch=4)
    assert str(report) == "replaced lstm: torch.nn.LSTM"
    assert theirs.shape[0] == 4
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert min(seconds) > 0


def test_memory():
    losses, right = example("torch_memory")["main"](updates=40, steps=40)
    assert losses[-1] < 0.3
    assert right > 0.9


def test_telephone():
    module = example("torch_telephone")
    scores = torch.eye(11)[[0, 4, 4, 0, 4, 10, 0, 1]][:, None].log()  # of which the last is behind the end
    assert module["heard"](scores, torch.tensor([7])) == ["339"]
    losses, right, pairs = module["main"](updates=12, rows=8)
    assert losses[-1] < 0.3 * losses[0]
    assert len(pairs) == 200
    assert right == np.mean([number == heard for number, heard in pairs])


def test_film():
    losses, right = example("torch_film")["main"](updates=45)
    assert np.mean(losses[-10:]) < 0.5
    assert right > 0.8


def test_two_processes_train_as_one(monkeypatch):
    module = example("torch_distributed")
    one, losses = module["train"](0, 1, 5, 16)
    monkeypatch.syspath_prepend(EXAMPLES)  # spawned processes import what they run, by its module's name
    found = importlib.import_module("torch_distributed").main(processes=2, updates=5, rows=16)
    for each in found:
        np.testing.assert_allclose(each["losses"], losses, rtol=1e-4)
        for name, parameter in one.items():
            torch.testing.assert_close(each["state"][name], parameter, rtol=0, atol=1e-4)
            assert torch.equal(each["state"][name], found[0]["state"][name])
