"""Memory of the callers' libraries: torch's on the host, and a call of the emulated device on tensors."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from support.calls import draw, named_gradients
from support.cases import CASES, DTYPES, Case
from support.cells import CELLS
from support.cuda_emulation import EmulatedDevice
from support.emulated import awkward_plan, backend, run, stepwise
from support.errors import assert_same_bits

from rnn_gpu.arrays import dtype_named
from rnn_gpu.kernels.cupy_raw.torch_memory import TorchMemory
from rnn_gpu.problem import describe

MEMORY = TorchMemory("cpu")


def tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of the array's bits, and of its strides."""
    array = np.asarray(array, array.dtype.newbyteorder("="))
    bits = array.view(np.int16) if array.dtype.name == "bfloat16" else array
    if any(stride < 0 for stride in bits.strides):  # torch has no such tensors: one with gaps instead
        around = torch.from_numpy(np.ascontiguousarray(bits)).repeat_interleave(2, dim=-1)
        there = around[..., ::2]
    else:
        there = torch.from_numpy(bits.copy(order="K"))
    return there.view(torch.bfloat16) if array.dtype.name == "bfloat16" else there


def array(found: torch.Tensor) -> np.ndarray:
    assert not found.requires_grad
    return found.view(torch.int16).numpy().view("bfloat16") if found.dtype == torch.bfloat16 else found.numpy()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_taken(dtype):
    values = np.arange(12).reshape(4, 3)
    source, rows = MEMORY.zeros((4, 3), dtype_named(dtype)), MEMORY.upload(np.array([2, 0, 3]))
    MEMORY.copy(torch.from_numpy(values).T.contiguous().T, source)
    assert MEMORY.dtype(source) == dtype_named(dtype)
    for other in (dtype, "float32"):
        out = MEMORY.empty((3, 3), dtype_named(other))
        MEMORY.take_rows(source, rows, out)
        assert_array_equal(array(out).astype(int), values[[2, 0, 3]])


def test_parts_may_be_written_to():
    """Autograd refuses to write to views that it was given."""
    whole = MEMORY.empty((3, 2, 4), np.dtype(np.float32))
    parts = MEMORY.parts(whole[1:])
    for k, part in enumerate(parts, 1):
        assert not part._is_view()
        assert part.data_ptr() == whole[k].data_ptr()
        assert part.shape == (2, 4)
        part.fill_(k)
    assert whole[1:, 1, 3].tolist() == [1, 2]


def test_what_is_dense():
    plain = torch.zeros(4, 8)
    float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
    assert MEMORY.dense_address(plain, float32) == MEMORY.address(plain)
    assert MEMORY.dense_address(plain, float64) is None
    assert MEMORY.dense_address(plain.T, float32) is None
    assert MEMORY.dense_address(plain[:, :4], float32) is None
    assert MEMORY.dense_address(plain.reshape(-1)[1:9], float32) is None  # 4 bytes after a multiple of 16
    assert MEMORY.dense_address(plain[:1, :4], float32) is not None  # no other row, so no gap


def test_a_host_array_may_change_after_it_was_uploaded():
    host = np.arange(6, dtype=np.int32).reshape(2, 3).T
    there = MEMORY.upload(host)
    expected = host.copy()
    host[...] = 0
    assert there.is_contiguous()
    assert_array_equal(array(there), expected)


def test_what_torch_follows_is_left_alone():
    followed = torch.ones(3, requires_grad=True)
    out = MEMORY.zeros((3,), np.dtype(np.float32))
    MEMORY.copy(MEMORY.adopt(followed), out)
    assert array(out).tolist() == [1, 1, 1]
    assert MEMORY.adopt(out) is out


@pytest.mark.skipif(shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none")
@pytest.mark.parametrize("case", [case for case in CASES if case.layout != "foreign"], ids=str)
@pytest.mark.parametrize(("name", "dtype"), [("lstm_peephole", "float32"), ("gru_2014", "bfloat16")])
@pytest.mark.parametrize("strategy", ["grid", "stepwise"])
def test_tensors_give_what_arrays_give(strategy, name, dtype, case):
    plan_of = stepwise("fma") if strategy == "stepwise" else awkward_plan(strategy, "fma")
    call = draw(CELLS[name], case, dtype)
    expected = run(call, plan_of)
    ours = backend(plan_of, EmulatedDevice(memory=MEMORY))
    there = call.map(tensor)
    names = ("initial", "lengths", "resets", "reverse")
    problem, inputs = describe(call.cell, call.x, call.weights, **{name: getattr(call, name) for name in names})
    inputs = inputs._replace(x=there.x, weights=there.weights, initial=there.initial)
    y, last, saved = ours.forward(problem, inputs)
    gradients = ours.backward(problem, inputs, saved, there.dy, there.dlast)
    ends = {f"last_{state}": each for state, each in zip(call.cell.states, last, strict=True)}
    found = {"y": y} | ends | named_gradients(call.cell, gradients)
    assert_same_bits({key: array(each) for key, each in found.items()}, expected)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none")
@pytest.mark.parametrize("B", [1, 2])
@pytest.mark.parametrize("strategy", ["block", "stepwise"])
def test_last_states_are_read_where_they_are(strategy, B, monkeypatch):
    """The states that a call leaves are the next call's as they lie; others are copied to lie like that."""
    plan_of = stepwise("fma") if strategy == "stepwise" else awkward_plan(strategy, "fma")
    device = EmulatedDevice()
    ours = backend(plan_of, device)
    call = draw(CELLS["lstm"], Case("adjacent", T=3, B=B, I=3, H=6), "float32")  # no multiple of 16 bytes

    def forward(initial):
        problem, inputs = describe(call.cell, call.x, call.weights, initial=initial)
        y, last, saved = ours.forward(problem, inputs)
        return y, last, ours.backward(problem, inputs, saved, call.dy, last).initial

    _, last, _ = forward(None)
    copied = []
    copy = device.copy
    monkeypatch.setattr(device, "copy", lambda source, out: (copied.append(source), copy(source, out)))
    found = forward(last)
    assert len(copied) == (4 if strategy == "stepwise" else 0)  # which goes on in a copy, both ways
    expected = forward(tuple(state.copy() for state in last[::-1])[::-1])
    assert len(copied) > (4 if strategy == "stepwise" else 0)
    for ours_, theirs in zip((found[0], *found[1], *found[2]), (expected[0], *expected[1], *expected[2]), strict=True):
        assert_array_equal(ours_, theirs)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none")
def test_the_gradient_of_an_input_product_that_was_given_is_made_once(monkeypatch):
    T, B, H = 20, 4, 8
    device = EmulatedDevice()
    ours = backend(awkward_plan("block", "fma"), device)
    call = draw(CELLS["lstm"], Case("projected", T=T, B=B, H=H, projected=True), "float32")
    problem, inputs = describe(call.cell, call.x, call.weights)
    _, _, saved = ours.forward(problem, inputs)
    made = []
    empty = device.empty
    monkeypatch.setattr(device, "empty", lambda shape, dtype: made.append(empty(shape, dtype)) or made[-1])
    gradients = ours.backward(problem, inputs, saved, call.dy, (None, None))
    size = gradients.x.nbytes
    assert sum(array.nbytes >= size for array in made) == 1
