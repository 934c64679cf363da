"""Without CUDA the backend says what is missing and what installs it, and is in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.dispatch import BACKENDS
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.numba_cuda import device

X = np.zeros((3, 2, 4), np.float32)
WEIGHTS = rnn_gpu.init_weights(cells.lstm, 4, 6)


def reason(code="", **environment):
    """What a new process says, after running `code`."""
    code += "\nfrom rnn_gpu.dispatch import BACKENDS\nprint(BACKENDS['numba_cuda'].unavailable())"
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


WITHOUT = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {name!r} else find_spec(name, *rest)
"""


@pytest.mark.parametrize(("module", "package"), [("numba_cuda", "numba-cuda"), ("numba", "numba")])
def test_a_package_that_is_missing(module, package):
    found = reason(WITHOUT.format(name=module))
    assert f"the package {package} is not installed: pip install 'rnn_gpu[cuda13]' (or [cuda12]" in found


def test_no_device():
    found = reason(CUDA_VISIBLE_DEVICES="-1")
    if "numba-cuda is not installed" in found:
        pytest.skip("numba-cuda, of the extra `test`, is not installed")
    assert "no CUDA device can be used: " in found
    assert "pip install 'rnn_gpu[cuda13]' (or [cuda12]" in found


def test_the_simulator_is_a_device():
    if device.missing_package():
        pytest.skip("numba-cuda, of the extra `test`, is not installed")
    assert reason(NUMBA_ENABLE_CUDASIM="1") == "None\n"


def test_a_library_that_is_missing(monkeypatch):
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="numba-cuda, of the extra `test`, is not installed")

    def load(name):
        if name == "nvrtc":
            raise pathfinder.DynamicLibNotFoundError("no such file")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", load)
    assert device.missing_library().startswith(
        "NVRTC, a library of the CUDA toolkit, is not installed: pip install 'rnn_gpu"
    )
    assert device.missing_library(("nvvm",)) is None


def test_asked_for_by_name_it_raises(monkeypatch):
    monkeypatch.setattr(type(BACKENDS["numba_cuda"]), "unavailable", lambda self: "no CUDA device can be used")
    with pytest.raises(BackendError, match=r"numba_cuda: no CUDA device can be used$"):
        rnn_gpu.forward(cells.lstm, X, WEIGHTS, backend="numba_cuda")
    assert rnn_gpu.explain(cells.lstm, X, WEIGHTS).chosen in ("numba_cpu", "numpy_cpu")


def test_host_arrays_go_there_by_name_only(monkeypatch):
    monkeypatch.setattr(type(BACKENDS["numba_cuda"]), "unavailable", lambda self: None)
    monkeypatch.setattr(type(BACKENDS["numba_cuda"]), "refuses", lambda self, problem: "too wide")
    monkeypatch.delenv("RNN_GPU_BACKEND", raising=False)
    reasons = rnn_gpu.explain(cells.lstm, X, WEIGHTS).reasons
    assert reasons["numba_cuda"] == "x is a numpy array on cpu; this backend takes arrays on a CUDA device"
    assert rnn_gpu.explain(cells.lstm, X, WEIGHTS, backend="numba_cuda").reasons["numba_cuda"] == "too wide"
    monkeypatch.setenv("RNN_GPU_BACKEND", "numba_cuda")
    assert rnn_gpu.explain(cells.lstm, X, WEIGHTS).reasons["numba_cuda"] == "too wide"
