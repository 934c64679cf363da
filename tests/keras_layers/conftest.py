import pytest


@pytest.fixture(autouse=True)
def _reference_backend(monkeypatch):
    """The layers are the same on every backend of ours; the reference needs no compilation."""
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")
