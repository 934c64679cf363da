"""The suite that measures the modules of rnn_gpu.torch in place of the functions on arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import rnn_gpu.torch
from rnn_gpu import cells, cli
from rnn_gpu.bench import blas, ours
from rnn_gpu.bench.calls import draw
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.bench.suites import SUITES
from rnn_gpu.bench.timing import Plan


@pytest.mark.parametrize("mode", ["forward", "train", "step"])
@pytest.mark.parametrize("cell", [cells.rnn_relu, cells.lstm, cells.gru], ids=lambda cell: cell.name)
def test_modules_give_what_functions_give(cell, mode, monkeypatch):
    seen = []
    run = rnn_gpu.torch.operators.run
    for module in (rnn_gpu.torch.recurrent, rnn_gpu.torch.single_step):
        monkeypatch.setattr(module, "run", lambda given: seen.append(given.call.backend) or run(given))
    call = draw(Case(cell, Shape(4, 2, 3, 5), mode))
    by_modules = ours.runner(call, "numpy_cpu", modules=True)
    by_functions = ours.runner(call, "numpy_cpu")
    found, expected = (runner.results(runner.run()) for runner in (by_modules, by_functions))
    assert set(found) == set(expected)
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-6, err_msg=name)
    assert set(seen) == {"numpy_cpu"}


def test_the_suite(monkeypatch, capsys):
    whole, quick = SUITES["torch"]
    assert whole.modules
    assert whole.shapes == SUITES["cpu"][0].shapes
    tiny = replace(quick, backend="numpy_cpu", shapes=(Shape(3, 2, 4, 5),), plan=Plan(seconds=0.0, least=1, turn=1e-4))
    monkeypatch.setitem(SUITES, "torch", (tiny, tiny))
    monkeypatch.setattr("rnn_gpu.bench.timing._rest", lambda: None)
    monkeypatch.setattr("rnn_gpu.bench.timing.WARM_UP_S", 0.0)
    monkeypatch.setattr(blas, "SGEMM_SIZE", 16)
    monkeypatch.setattr("rnn_gpu.cli.bench._LINE_EVERY", 0.0)
    threads = torch.get_num_threads()
    assert cli.main(["bench", "--suite", "torch"]) == 0
    assert torch.get_num_threads() == threads
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("│") and "3,2,4,5" in line]
    assert len(rows) == 2 * len(tiny.cells)
    assert all("x" in row for row in rows)
    assert any(line.endswith("gru 3,2,4,5 train") for line in lines), "lines of progress"
