"""Keras on its torch backend, in this process. Other backends run in processes of their own, see test_backends."""

import os
import tempfile

import pytest

os.environ["KERAS_BACKEND"] = "torch"  # read when Keras is imported
os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp(prefix="keras-"))  # it writes a configuration there


@pytest.fixture(autouse=True)
def _reference_backend(monkeypatch):
    """The layers are the same on every backend of ours; the reference needs no compilation."""
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")
