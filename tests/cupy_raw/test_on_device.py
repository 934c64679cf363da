"""What only a device can show: libraries, streams, memory, and each strategy on it."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
from support.backends import DEVICES, REFERENCE, Target
from support.calls import draw
from support.cases import Case
from support.errors import assert_same_bits, error

import rnn_gpu
from rnn_gpu import cells, dispatch, stack
from rnn_gpu.errors import ArgumentError, BackendError
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE, STRATEGIES

BACKEND = dispatch.BACKENDS["cupy_raw"]

pytestmark = pytest.mark.skipif(BACKEND.unavailable() is not None, reason=f"cupy_raw: {BACKEND.unavailable()}")

CUPY = Target("cupy_raw", **DEVICES["cupy_raw"])
CASE = Case("device", T=9, B=5, I=7, H=33, lengths=(9, 0, 3, 1, 8), resets=((0, 0), (2, 2), (7, 4)), initial=True)


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture
def cuda_torch():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch sees no CUDA device")
    return torch


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru_2014, cells.indrnn], ids=lambda cell: cell.name)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy(strategy, cell, dtype, monkeypatch):
    call = draw(cell, CASE, dtype, padding=0.0)
    expected = REFERENCE.run(call.map(lambda array: array.astype(np.float64)))
    plain = REFERENCE.run(call)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, strategy)
    try:
        found = CUPY.run(call)
    except BackendError as reason:
        pytest.skip(str(reason))
    for name, array in found.items():
        # Products of 16-bit numbers round their operands at every step, which the reference does not.
        limit = max(2 * error(plain[name], expected[name]), 8) if dtype != "bfloat16" else 3e5
        assert error(array, expected[name]) <= limit, name


def test_a_strategy_that_does_not_exist(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "blocks")
    with pytest.raises(ArgumentError, match=r"RNN_GPU_STRATEGY: expected one of block, cluster, grid, stepwise"):
        CUPY.run(draw(cells.lstm, CASE, "float32"))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_torch_tensors_give_what_cupy_arrays_give(cuda_torch, dtype):
    torch = cuda_torch

    def put(array):
        if array.dtype.name == "bfloat16":
            return torch.tensor(array.view(np.int16), device="cuda").view(torch.bfloat16)
        return torch.tensor(np.ascontiguousarray(array), device="cuda")

    def get(tensor):
        assert isinstance(tensor, torch.Tensor)
        assert tensor.is_cuda
        host = tensor.cpu()
        return host.view(torch.int16).numpy().view("bfloat16") if host.dtype == torch.bfloat16 else host.numpy()

    call = draw(cells.lstm_peephole, CASE, dtype, padding=0.0)
    assert_same_bits(Target("cupy_raw", put=put, get=get).run(call), CUPY.run(call))


def test_numba_arrays_give_what_cupy_arrays_give():
    cuda = pytest.importorskip("numba.cuda")

    def get(array):
        assert hasattr(array, "copy_to_host")
        return array.copy_to_host()

    call = draw(cells.gru, CASE, "float32", padding=0.0)
    put = lambda array: cuda.to_device(np.ascontiguousarray(array))  # noqa: E731
    assert_same_bits(Target("cupy_raw", put=put, get=get).run(call), CUPY.run(call))


def test_work_is_queued_on_cupys_stream(cupy):
    call = draw(cells.lstm, CASE, "float32", padding=0.0)
    expected = CUPY.run(call)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        there, (y, last, tape) = CUPY.forward(call)
        gradients = rnn_gpu.backward(tape, there.dy, there.dlast)
    stream.synchronize()
    assert_same_bits(CUPY.named(there, y, last, gradients), expected)


def test_work_is_queued_on_torchs_stream(cuda_torch):
    """The input is written on that stream, late: a kernel on another stream would read it too early."""
    torch = cuda_torch
    w = rnn_gpu.init_weights(cells.gru, 16, 32).map(lambda array: torch.tensor(array, device="cuda"))
    x = torch.zeros(20, 4, 16, device="cuda")
    value = torch.randn(20, 4, 16, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        x.copy_(value)
        y = rnn_gpu.forward(cells.gru, x, w, backend="cupy_raw").y
        late = y.clone()
    torch.cuda.synchronize()
    expected = rnn_gpu.forward(cells.gru, value, w, backend="cupy_raw").y
    assert torch.equal(late, expected)


@pytest.mark.parametrize("change", ["strided", "misaligned", "columns"])
def test_arrays_of_any_layout(cupy, change):
    def put(array):
        there = cupy.asarray(np.ascontiguousarray(array))
        if change == "misaligned":
            around = cupy.empty(there.size + 1, there.dtype)
            view = around[1:].reshape(there.shape)
        elif change == "strided":
            view = cupy.empty([2 * size for size in there.shape], there.dtype)[(slice(None, None, 2),) * there.ndim]
        else:
            view = cupy.empty(there.shape, there.dtype, order="F")
        view[...] = there
        return view

    call = draw(cells.lstm_peephole, CASE, "float32", padding=0.0)
    assert_same_bits(Target("cupy_raw", put=put, get=CUPY.get).run(call), CUPY.run(call))


def test_resets_and_lengths_on_the_device(cupy):
    call = draw(cells.gru, CASE, "float32", padding=0.0)
    there = call.map(CUPY.put)
    y, last, _ = rnn_gpu.forward(*there.arguments(), backend="cupy_raw")
    w, (lengths, resets) = there.weights, map(cupy.asarray, (call.lengths, call.resets))
    again = rnn_gpu.forward(there.cell, there.x, w, there.initial, lengths, resets, backend="cupy_raw")
    assert cupy.array_equal(again.y, y)
    assert cupy.array_equal(again.last[0], last[0])


def test_resets_on_the_device_in_both_directions(cupy):
    call = draw(cells.gru, replace(CASE, I=6, H=6), "float32", padding=0.0)
    layers = [call.weights, call.weights]
    expected = stack.forward(call.cell, call.x, layers, lengths=call.lengths, resets=call.resets, bidirectional=True)
    there = [w.map(cupy.asarray) for w in layers]
    x, resets = cupy.asarray(call.x), cupy.asarray(call.resets)
    found = stack.forward(call.cell, x, there, lengths=call.lengths, resets=resets, bidirectional=True)
    np.testing.assert_allclose(found.y.get(), expected.y, atol=1e-5)


def test_out_of_memory_leaves_everything_usable(cupy):
    pool = cupy.get_default_memory_pool()
    call = draw(cells.lstm, Case("large", T=200, B=32, I=32, H=64), "float32")
    there = call.map(CUPY.put)
    former = pool.get_limit()
    gc.collect()  # what would otherwise be freed during the call
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (1 << 20))
    try:
        with pytest.raises(MemoryError):
            rnn_gpu.forward(*there.arguments(), backend="cupy_raw")
    finally:
        pool.set_limit(size=former)
    y = rnn_gpu.forward(*there.arguments(), backend="cupy_raw").y
    np.testing.assert_allclose(y.get(), rnn_gpu.forward(*call.arguments(), backend="numpy_cpu").y, atol=1e-5)


def test_more_elements_than_32_bits_count():
    """T * B * G * H is 2^31 and more; the last rows are those of a short call."""
    cupy = pytest.importorskip("cupy")
    T, B, H = 16, 1 << 19, 64
    if cupy.cuda.Device().mem_info[0] < 40 << 30:
        pytest.skip("needs 40 GiB of free memory on the device")
    w = rnn_gpu.init_weights(cells.lstm, 4, H, dtype="float32").map(cupy.asarray)
    x = cupy.resize(cupy.asarray(np.random.default_rng(0).standard_normal(99_991, np.float32)), (T, B, 4))
    y = rnn_gpu.forward(cells.lstm, x, w, backend="cupy_raw", save=False).y
    few = rnn_gpu.forward(cells.lstm, cupy.ascontiguousarray(x[:, -8:]), w, backend="cupy_raw", save=False).y
    assert float(cupy.abs(y[:, -8:] - few).max()) < 1e-5
