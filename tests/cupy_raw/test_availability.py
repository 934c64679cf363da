"""Why CuPy cannot be used, in words that say what to do. The first test is this machine's own state."""

from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace

import pytest

import rnn_gpu
from rnn_gpu.kernels.cupy_raw import availability

TOLD = {
    "no package": "the package cupy is not installed: pip install 'rnn_gpu[cuda13]', or 'rnn_gpu[cuda12]' "
    "for a driver older than 580",
    "no driver": "no NVIDIA driver was found",
    "old driver": "the NVIDIA driver is too old: it supports CUDA 12.4, and this CuPy needs CUDA 13.2: update it, or "
    "install CuPy for an older CUDA (pip install 'rnn_gpu[cuda13]', or 'rnn_gpu[cuda12]' for a driver older than 580)",
}


class CUDARuntimeError(RuntimeError):
    pass


def runtime(error=None, count=1, driver=13020, is_hip=False):
    """CuPy's view of CUDA's runtime, on a machine in this state."""

    def get_device_count():
        if error:
            raise CUDARuntimeError(error)
        return count

    return SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, is_hip=is_hip, getDeviceCount=get_device_count,
        driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13020,
    )  # fmt: skip


@pytest.fixture
def cupy(monkeypatch):
    """Let `import cupy` give a CuPy on such a machine."""
    real = importlib.import_module

    def put(runtime):
        fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
        monkeypatch.setattr(importlib, "import_module", lambda name: fake if name == "cupy" else real(name))

    return put


def test_a_folder_of_the_same_name(monkeypatch):
    folder = SimpleNamespace(__path__=["/home/me/cupy"])
    monkeypatch.setattr(importlib, "import_module", lambda name: folder)
    assert availability.reason() == "what is imported as cupy is not CuPy: ['/home/me/cupy']"


INSUFFICIENT = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"


def test_this_machine():
    real = pytest.importorskip("cupy").cuda.runtime
    if real.driverGetVersion() == 0:
        assert availability.reason() == TOLD["no driver"]
        assert availability.devices() == []
    elif availability.reason() is None:
        assert len(availability.devices()) == real.getDeviceCount() > 0


def test_no_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert availability.reason() == TOLD["no package"]


def test_a_package_that_does_not_load(monkeypatch):
    def fail(name):
        raise ImportError("\n=====\nlibcudart.so.13: cannot open shared object file\nmore\n")

    monkeypatch.setattr(importlib, "import_module", fail)
    assert availability.reason() == "cupy cannot be imported: libcudart.so.13: cannot open shared object file"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (runtime(INSUFFICIENT, driver=0), TOLD["no driver"]),
        (runtime(INSUFFICIENT, driver=12040), TOLD["old driver"]),
        (runtime("cudaErrorNoDevice: no CUDA-capable device is detected"), "no CUDA device is visible"),
        (runtime(count=0), "no CUDA device is visible"),
        (runtime("cudaErrorSystemNotReady: system not yet initialized"),
         "CUDA does not start: cudaErrorSystemNotReady: system not yet initialized"),
        (runtime(is_hip=True), "this CuPy is built for ROCm, and the kernels are CUDA's"),
    ],
    ids=["no driver", "old driver", "no device", "none", "not ready", "rocm"],
)  # fmt: skip
def test_the_machine(cupy, monkeypatch, state, told):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cupy(state)
    assert availability.reason() == told


def test_hidden_devices(cupy, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cupy(runtime(count=0))
    assert availability.reason() == "no CUDA device is visible (CUDA_VISIBLE_DEVICES='')"


def test_a_library_is_missing(cupy):
    libraries = importlib.import_module("cupy_backends.cuda.libs")
    try:
        libraries.cublas  # noqa: B018
    except ImportError:
        pass
    else:
        pytest.skip("cuBLAS is installed, so that it cannot be found missing")
    cupy(runtime())
    told = availability.reason()
    assert told is not None
    assert told.startswith("cuBLAS, which does the products, was not found: pip install 'rnn_gpu[cuda13]'")


def test_the_backend_says_so_and_is_not_asked_about_host_arrays():
    backend = rnn_gpu.dispatch.BACKENDS["cupy_raw"]
    assert backend.device_kind == "cuda"
    assert backend.unavailable() == availability.unavailable()
    if backend.unavailable() is not None:
        assert backend.devices() == []
