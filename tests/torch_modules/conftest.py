"""The modules are the same on every backend; the reference needs no compilation. `compiled_backend` undoes that."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _reference_backend(monkeypatch):
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")
    torch.manual_seed(0)


@pytest.fixture
def compiled_backend(monkeypatch):
    monkeypatch.setenv("RNN_GPU_BACKEND", "numba_cpu")
