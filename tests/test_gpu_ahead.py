"""Compiling ahead what a GPU is to run: which kernels calls launch is found out without one, and the code is kept."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rnn_gpu.kernels.numba_cuda.device import missing_library

if None in map(importlib.util.find_spec, ("cupy", "numba_cuda")) or (MISSING := missing_library()):
    pytest.skip("CuPy, numba-cuda and the libraries of the extra `test` are not all there", allow_module_level=True)

from gpu import ahead, dry

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.bench import calls
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.dispatch import BACKENDS
from rnn_gpu.errors import BackendError

TRAIN = Case(cells.lstm, Shape(5, 3, 4, 8), "train")

COMPILE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from gpu import ahead, dry
from rnn_gpu import cells
from rnn_gpu.bench.shapes import Case, Shape
with dry.devices(dry.H100) as wanted:
    for backend in ("cupy_raw", "numba_cuda"):
        ahead.run_case(Case(cells.indrnn, Shape(5, 3, 4, 8), "forward"), backend, None)
wanted.compile(2)
"""


def test_what_a_call_launches():
    with dry.devices(dry.H200) as wanted:
        ahead.run_case(TRAIN, "cupy_raw", "block")
        assert len(wanted.cupy_raw) == 3  # the sequence in both directions, and the sums for the biases
        assert not wanted.numba_cuda
        for _ in range(2):
            ahead.run_case(TRAIN, "numba_cuda", "stepwise")
        names = {kernel.function.__name__ for kernel, _ in wanted.numba_cuda.values()}
        assert {"one_stage", "product", "sum_rows", "_pack"} <= names
        ahead.run_case(TRAIN, "numba_cuda", "grid")
        grids = [kernel for kernel, _ in wanted.numba_cuda.values() if kernel.function.__name__ == "grid_sequence"]
        assert [kernel.cooperative for kernel in grids] == [True, True]


def test_the_backends_are_what_they_were_afterwards():
    before = [BACKENDS[name].unavailable() for name in BACKENDS]
    with dry.devices(dry.H200):
        assert BACKENDS["cupy_raw"].unavailable() is BACKENDS["numba_cuda"].unavailable() is None
    assert [BACKENDS[name].unavailable() for name in BACKENDS] == before


def test_what_cannot_be_run_is_said(capsys):
    with dry.devices(dry.H200) as wanted:
        ahead.run_case(replace(TRAIN, shape=Shape(5, 3, 4, 2048)), "numba_cuda", "block")
    assert "numba_cuda block" in capsys.readouterr().out
    assert not wanted.numba_cuda


@pytest.mark.parametrize("capability", [(13, 0), (7, 0)])
def test_a_device_that_nothing_is_compiled_for_is_refused(capability):
    weights, x = rnn_gpu.init_weights(cells.gru, 4, 8), calls.draw(TRAIN).x
    with dry.devices(replace(dry.H200, capability=capability)):
        reason = rnn_gpu.explain(cells.gru, x, weights, backend="numba_cuda").reasons["numba_cuda"]
        assert f"and the device is sm_{capability[0]}{capability[1]}" in reason
        with pytest.raises(BackendError, match="this CUDA toolkit compiles for"):
            rnn_gpu.forward(cells.gru, x, weights, backend="numba_cuda")


def test_it_is_all_compiled_and_kept(tmp_path):
    environment = os.environ | {"RNN_GPU_CACHE_DIR": str(tmp_path)}
    counts = []
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        counts.append({name: len(list((tmp_path / name).iterdir())) for name in ("cupy_raw", "numba_cuda")})
    assert counts[0] == counts[1]
    said = f"{counts[0]['cupy_raw']} sources of cupy_raw, {counts[0]['numba_cuda']} kernels of numba_cuda"
    assert said in ran.stdout
    assert min(counts[0].values()) > 0


def test_what_does_not_compile_is_said_and_the_rest_is_compiled(tmp_path):
    broken = COMPILE.replace(
        "wanted.compile(2)",
        """
from rnn_gpu.kernels.numba_cuda.jit import kernel
def wrong(x):
    x.no_such_thing()
_, arguments = next(iter(wanted.numba_cuda.values()))
wanted.numba_cuda = {0: (kernel(wrong), arguments[:1]), **wanted.numba_cuda}
wanted.compile(1)
""",
    )
    environment = os.environ | {"RNN_GPU_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", broken], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "no_such_thing" in ran.stderr
    assert "1 of 1 processes did not compile all of theirs" in ran.stderr
    assert min(len(list((tmp_path / name).iterdir())) for name in ("cupy_raw", "numba_cuda")) > 0


def test_calls_of_every_backend_are_made_without_a_device():
    """The host's side of a call, shapes and dtypes of what it gives among it."""
    weights = rnn_gpu.init_weights(cells.gru, 4, 8, dtype="float16")
    x = calls.draw(TRAIN).x.astype("float16")
    with dry.devices(dry.H200):
        for backend in ("cupy_raw", "numba_cuda"):
            y, last, tape = rnn_gpu.forward(cells.gru, x, weights, lengths=[5, 0, 2], backend=backend)
            gradients = rnn_gpu.backward(tape, y)
            assert (y.shape, y.dtype, last[0].dtype) == ((5, 3, 8), x.dtype, "float32")
            assert gradients.x.shape == x.shape
            assert gradients.weights.w_hh.shape == (24, 8)
