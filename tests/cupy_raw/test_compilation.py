"""NVRTC, and the compiled code on disk. No driver is needed."""

from __future__ import annotations

import os
import threading

import pytest

from rnn_gpu import machine_code
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw import compilation
from rnn_gpu.kernels.cupy_raw.device import Kernel
from rnn_gpu.machine_code import Target, target_for

KERNEL = Kernel('extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }', "twice")
SM_90 = Target("sm_90")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and the number of compilations so far."""
    monkeypatch.setenv(machine_code.CACHE_VARIABLE, str(tmp_path))
    made = []
    real = compilation.compiled
    monkeypatch.setattr(compilation, "compiled", lambda *given: made.append(given) or real(*given))
    return made


def kept():
    return sorted(machine_code.folder("cupy_raw").iterdir())


def test_compiled_once_and_read_back(cache):
    first = compilation.binary(KERNEL, SM_90)
    assert first.startswith(b"\x7fELF")
    assert compilation.binary(KERNEL, SM_90) == first
    assert compilation.binary(Kernel(KERNEL.source, "another of its kernels"), SM_90) == first
    assert len(cache) == len(kept()) == 1


def test_each_source_architecture_and_compiler_apart(cache, monkeypatch):
    compilation.binary(KERNEL, SM_90)
    compilation.binary(KERNEL, Target("sm_80"))
    compilation.binary(Kernel(KERNEL.source + "\n", "twice"), SM_90)
    assert b".target sm_90" in compilation.binary(KERNEL, Target("compute_90"))
    assert len(kept()) == 4
    monkeypatch.setattr(compilation, "OPTIONS", (*compilation.OPTIONS, "--extra-device-vectorization"))
    compilation.binary(KERNEL, SM_90)
    assert len(cache) == len(kept()) == 5


@pytest.mark.parametrize("left", [b"", b"\x7fEL", b"half a file"])
def test_a_damaged_file_is_made_anew(cache, left):
    code = compilation.binary(KERNEL, SM_90)
    (path,) = kept()
    path.write_bytes(left)
    assert compilation.binary(KERNEL, SM_90) == code == path.read_bytes()


def test_threads_compile_once(cache):
    threads = [threading.Thread(target=compilation.binary, args=(KERNEL, SM_90)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 1


def test_a_folder_that_cannot_be_written_is_a_warning(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(machine_code.CACHE_VARIABLE, str(tmp_path / "file"))
    machine_code._warn_once.cache_clear()
    with pytest.warns(
        RuntimeWarning, match="compiled kernels cannot be kept in .*: Not a directory; set RNN_GPU_CACHE"
    ):
        code = compilation.binary(KERNEL, SM_90)
    assert compilation.binary(KERNEL, SM_90) == code  # and is not said twice


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(machine_code.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine_code.folder("cupy_raw") == tmp_path / "rnn_gpu" / "cupy_raw"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine_code.folder("cupy_raw") == tmp_path / ".cache" / "rnn_gpu" / "cupy_raw"


def test_what_does_not_compile_says_why(cache):
    with pytest.raises(BackendError, match=r"NVRTC does not compile the kernel for sm_90: rnn_gpu.cu\(1\): error: "):
        compilation.binary(Kernel("nonsense", "none"), SM_90)
    assert not machine_code.folder("cupy_raw").exists() or os.listdir(machine_code.folder("cupy_raw")) == []


@pytest.mark.parametrize(
    ("capability", "name"),
    [((8, 0), "sm_80"), ((8, 7), "sm_86"), ((9, 0), "sm_90"), ((10, 3), "sm_100"), ((12, 0), "compute_100")],
)
def test_targets(capability, name):
    assert target_for("NVRTC", capability, (75, 80, 86, 90, 100)).name == name


def test_a_device_older_than_any_target():
    with pytest.raises(BackendError, match="this NVRTC compiles for sm_75 and later, and the device is sm_70"):
        target_for("NVRTC", (7, 0), (75, 80))


def test_numbers_are_not_flushed_to_zero():
    source = 'extern "C" __global__ void k(float* x) { x[0] = x[0] * x[1] + x[2] / x[3] + sqrtf(x[4]); }'
    text = compilation.compiled(source, Target("compute_90")).decode()
    assert "fma.rn.f32" in text or "mul.f32" in text or "mul.rn.f32" in text
    assert "ftz" not in text
    assert "div.rn.f32" in text
    assert "sqrt.rn.f32" in text
