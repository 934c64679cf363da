"""Peers compute the same thing as we do, with the threads they are given, and say why they cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from rnn_gpu import cells
from rnn_gpu.bench import blas, ours
from rnn_gpu.bench.accuracy import FLOOR, Reference, distance
from rnn_gpu.bench.calls import draw
from rnn_gpu.bench.peers import PEERS, peer
from rnn_gpu.bench.shapes import MODES, Case, Shape

SHAPE = Shape(5, 3, 4, 6)
GRADIENTS = {"d_x", "d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", ["rnn", "rnn_relu", "lstm", "gru", "gru_2014", "lstm_peephole", "mgu"])
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_computes_what_the_reference_does(name, cell, mode):
    case = Case(cells.ALL[cell], SHAPE, mode)
    one = peer(name)
    if (reason := one.refuses(case)) is not None:
        assert {"torch": cell not in ("rnn", "rnn_relu", "lstm", "gru"), "onnxruntime": True, "numpy_cpu": False}[name]
        assert cell in reason or mode in reason
        return
    call = draw(case)
    runner = one.runner(call, 1)
    runner.run()
    results = runner.results(runner.run())
    expected = {"y", *(f"last_{state}" for state in case.cell.states)} | (GRADIENTS if mode == "train" else set())
    assert expected <= set(results)
    assert all(isinstance(array, np.ndarray) for array in results.values())
    assert Reference(call, [mode]).distance(results).error < 2e-6


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("cell", [cells.rnn, cells.lstm, cells.gru])
def test_torch_packs_rows_of_different_lengths(cell, mode):
    call = draw(Case(cell, SHAPE, mode, ragged=True))
    assert len(set(call.lengths)) > 1
    runner = peer("torch").runner(call, 1)
    results = runner.results(runner.run())
    assert not results["y"][call.lengths[0] :, 0].any()
    assert Reference(call, [mode]).distance(results).error < 2e-6


def test_peers_say_what_they_do_not_run():
    for options, word in (({"resets": 0.1}, "resets"), ({"recompute": True}, "keep"), ({"projected": True}, "product")):
        assert word in peer("torch").refuses(Case(cells.lstm, SHAPE, "train", **options))
    for options in ({"resets": 0.1}, {"ragged": True}, {"projected": True}):
        assert "whole rows" in peer("onnxruntime").refuses(Case(cells.lstm, SHAPE, "forward", **options))


def test_every_cell_of_the_suite_has_torch_in_every_mode_and_onnxruntime_forward():
    for cell in (cells.rnn, cells.lstm, cells.gru):
        assert all(peer("torch").refuses(Case(cell, SHAPE, mode)) is None for mode in MODES)
        assert peer("onnxruntime").refuses(Case(cell, SHAPE, "forward")) is None


def test_torch_keeps_no_gradients_where_none_are_asked_for():
    call = draw(Case(cells.lstm, SHAPE, "forward"))
    y, _ = peer("torch").runner(call, 1).run()
    assert not y.requires_grad


def test_torch_gets_its_threads_and_its_own_back():
    former = torch.get_num_threads()
    with peer("torch").threads(former + 1):
        assert torch.get_num_threads() == former + 1
    assert torch.get_num_threads() == former


def test_onnxruntime_gets_its_threads(monkeypatch):
    made = []
    session = onnxruntime.InferenceSession

    def remember(model, options, **others):
        made.append((options.intra_op_num_threads, others["providers"]))
        return session(model, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", remember)
    peer("onnxruntime").runner(draw(Case(cells.gru, SHAPE, "forward")), 3)
    assert made == [(3, ["CPUExecutionProvider"])]


@pytest.mark.parametrize(
    ("name", "missing"), [("torch", "torch"), ("onnxruntime", "onnxruntime"), ("onnxruntime", "onnx")]
)
def test_a_peer_that_is_not_installed_says_so(monkeypatch, name, missing):
    assert peer(name).unavailable() is None
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if module == missing else object())
    assert f"the package {missing}" in peer(name).unavailable()


def test_blas_says_when_its_threads_are_not_set(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    assert "pip install threadpoolctl" in blas.threads_remark(3)
    with blas.limited(3):
        pass
    monkeypatch.setattr("importlib.util.find_spec", lambda module: object())
    assert blas.threads_remark(3) is None


def test_distance_is_the_largest_relative_to_each_array():
    right = {"y": np.array([1.0, -4.0]), "d_x": np.array([0.01, 0.0]), "zero": np.zeros(2)}
    assert distance(right, right).error == 0.0
    assert distance({"y": np.array([1.0, -4.2])}, right) == (pytest.approx(0.05), "y")
    assert distance({"y": right["y"], "d_x": np.array([0.01, 0.002])}, right) == (pytest.approx(0.2), "d_x")
    assert distance({"zero": np.array([0.0, 0.5])}, right).error == 0.5


@pytest.mark.parametrize("array", [np.array([1.0, np.nan]), np.array([1.0, np.inf]), np.zeros(3), np.zeros((2, 1))])
def test_distance_is_infinite_for_what_is_no_result(array):
    assert distance({"y": array}, {"y": np.array([1.0, -4.0])}).error == np.inf


def test_the_bound_is_twice_the_plain_implementations_error():
    call = draw(Case(cells.lstm, SHAPE, "train"))
    reference = Reference(call, ["forward", "train"])
    runner = ours.runner(call, "numpy_cpu")
    results = runner.results(runner.run())
    error, floor = reference.distance(results).error, FLOOR * np.finfo(np.float32).eps
    assert 0.0 < error < 1e-6
    assert reference.bound(results) == pytest.approx(2 * error + floor)
    assert reference.bound({"y": results["y"]}) == pytest.approx(
        2 * reference.distance({"y": results["y"]}).error + floor
    )


def test_streaming_carries_the_state():
    case = Case(cells.lstm, SHAPE, "step")
    call = draw(case)
    whole = ours.runner(call.of(replace(case, mode="forward")), "numpy_cpu")
    steps = ours.runner(call, "numpy_cpu")
    expected = whole.results(whole.run())
    results = steps.results(steps.run())
    np.testing.assert_allclose(results["last_c"], expected["last_c"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results["y"], expected["y"][-1], rtol=1e-5, atol=1e-6)
