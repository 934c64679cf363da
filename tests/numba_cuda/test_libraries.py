"""Arrays as the caller's library has them, without a device: torch's in host memory, CuPy's of no memory at all."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda, of the extra `test`, is not installed", allow_module_level=True)

from rnn_gpu.arrays import dtype_named
from rnn_gpu.kernels.numba_cuda import launching, libraries
from rnn_gpu.kernels.numba_cuda.device_array import BFLOAT16_BITS, flat, of_cupy


def test_tensors_are_parts_of_the_memory_that_was_made():
    torch = pytest.importorskip("torch")
    owner = torch.arange(96, dtype=torch.uint8)
    memory = libraries._TorchMemory(0, 0)
    whole = flat(owner.data_ptr(), 24, np.dtype(np.float32), owner)
    given = memory.given(whole[4:10], (2, 3), np.dtype(np.float32))
    assert given.dtype is torch.float32
    assert given.data_ptr() == owner.data_ptr() + 16
    assert given.is_contiguous()
    assert not given._is_view()
    np.testing.assert_array_equal(given.numpy(), owner.numpy().view(np.float32)[4:10].reshape(2, 3))
    bits = flat(owner.data_ptr(), 48, BFLOAT16_BITS, owner)
    assert memory.given(bits[:12], (2, 2, 3), dtype_named("bfloat16")).dtype is torch.bfloat16
    assert memory.given(bits[:0], (0, 4), dtype_named("bfloat16")).shape == (0, 4)


def test_our_own_arrays_are_seen_as_they_are():
    array = flat(4096, 24, np.dtype(np.float32), None)
    for kind in (libraries._CupyMemory, libraries._TorchMemory, libraries._NumbaMemory):
        assert kind(0, 0).seen(array) is array


def test_arrays_of_cupy_are_parts_of_the_memory_that_was_made():
    cupy = pytest.importorskip("cupy")
    pointer = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(4096, 1024, None, device_id=0), 0)
    memory = libraries._CupyMemory(0, 0)
    whole = flat(pointer.ptr, 24, np.dtype(np.float32), pointer)
    given = memory.given(whole[4:10], (2, 3), np.dtype(np.float32))
    assert (given.data.ptr, given.shape, given.dtype) == (4112, (2, 3), np.float32)
    assert given.data.mem is pointer.mem
    bits = flat(pointer.ptr, 48, BFLOAT16_BITS, pointer)
    given = memory.given(bits[12:24], (2, 2, 3), dtype_named("bfloat16"))
    assert (given.data.ptr, given.shape, given.dtype) == (4120, (2, 2, 3), ml_dtypes.bfloat16)
    assert of_cupy(given).kind == bits.kind.replace("1", "3")
    assert memory.given(bits[:0], (0, 4), dtype_named("bfloat16")).shape == (0, 4)


def test_dense_arrays_are_seen_as_flat_ones():
    torch, cupy, dtype = pytest.importorskip("torch"), pytest.importorskip("cupy"), np.dtype(np.float32)
    tensor = torch.zeros(3, 4)
    pointer = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(4096, 1024, None, device_id=0), 0)
    array = cupy.ndarray((3, 4), dtype, memptr=pointer)
    for memory, whole, address in (
        (libraries._TorchMemory(0, 0), tensor, tensor.data_ptr()), (libraries._CupyMemory(0, 0), array, 4096),
    ):  # fmt: skip
        found = memory.dense(whole, dtype)
        assert (found.address, found.shape, found.dtype, found.owner is whole) == (address, (12,), dtype, True)
        assert memory.dense(whole.T, dtype) is None
        assert memory.dense(whole[:, ::2], dtype) is None
        assert memory.dense(whole[1:], dtype).address == address + 16


def test_what_is_cleared(monkeypatch):
    asked = []
    success = SimpleNamespace(name="CUDA_SUCCESS")
    monkeypatch.setattr(launching, "_SUCCESS", success)
    stub = SimpleNamespace(CUstream=int, cuMemsetD8Async=lambda *given: asked.append(given) or (success,))
    monkeypatch.setattr(libraries, "driver", stub)
    array = flat(4096, 24, np.dtype(np.float32), None)
    memory = libraries._CupyMemory(0, 7)
    memory.clear(array)
    memory.clear(array[4:10])
    memory.clear(array[4:4])
    assert asked == [(4096, 0, 96, 7), (4112, 0, 24, 7)]


@pytest.mark.parametrize(
    ("name", "message", "expected"),
    [
        ("OutOfMemoryError", "of CuPy, and of torch", True),
        ("CudaAPIError", "cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY", True),
        ("CudaAPIError", "cuLaunchKernel results in CUDA_ERROR_INVALID_VALUE", False),
        ("ValueError", "OUT_OF_MEMORY", False),
    ],
)
def test_which_errors_say_that_memory_ran_out(name, message, expected):
    error = type(name, (Exception,), {})(message)
    assert libraries.is_out_of_memory(error) is expected
