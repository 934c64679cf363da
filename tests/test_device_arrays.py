"""Arrays on a GPU, as far as they are seen without one: what is accepted, what is refused, and that nothing is read.

The arrays here are empty shells with the names, shapes, dtypes and devices of the libraries' own: whoever looks at a
value, or copies one, fails.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from support.calls import draw
from support.cases import DTYPES, Case

import rnn_gpu
from rnn_gpu import cells, cuda_arrays, dispatch, problem
from rnn_gpu.arrays import cast_like, copied, dtype_named, library_of
from rnn_gpu.errors import ArgumentError, ArgumentTypeError, BackendError


class Shell:
    """An array without values."""

    def __init__(self, shape, dtype, device=0, host=None):
        self.shape, self._host = tuple(shape), host
        self._name, self._device = str(dtype), device

    def __array__(self, *arguments, **options):
        raise AssertionError("a device array was read as a NumPy array")


class _Cupy(Shell):
    """Called cupy.ndarray below."""

    @property
    def dtype(self):
        return dtype_named(self._name)

    @property
    def device(self):
        return SimpleNamespace(id=self._device)

    def get(self):
        assert self._host is not None, "a device array was copied to the host"
        return self._host


class _Torch(Shell):
    """Called torch.Tensor below."""

    requires_grad = False
    layout = torch.strided
    is_cpu = False

    @property
    def dtype(self):
        return getattr(torch, self._name)

    @property
    def device(self):
        return f"cuda:{self._device}"

    def cpu(self):
        assert self._host is not None, "a device array was copied to the host"
        return self._host


class _Numba(Shell):
    """Called numba.cuda.cudadrv.devicearray.DeviceNDArray below."""

    @property
    def dtype(self):
        return dtype_named(self._name)

    @property
    def gpu_data(self):
        return SimpleNamespace(context=SimpleNamespace(device=SimpleNamespace(id=self._device)))

    def copy_to_host(self):
        assert self._host is not None, "a device array was copied to the host"
        return self._host


_Cupy.__module__, _Cupy.__qualname__ = "cupy", "ndarray"
_Torch.__module__, _Torch.__qualname__ = "torch", "Tensor"
_Numba.__module__, _Numba.__qualname__ = "numba.cuda.cudadrv.devicearray", "DeviceNDArray"

KINDS = {"cupy": _Cupy, "torch": _Torch, "numba": _Numba}
every_library = pytest.mark.parametrize("name", KINDS)

CALL = draw(cells.lstm, Case("device", T=5, B=3, I=4, H=6, initial=True), "float32")


def shell(name, device=0):
    return lambda array: KINDS[name](array.shape, array.dtype.name, device)


def arguments(name, **changed):
    names = ("cell", "x", "weights", "initial", "lengths", "resets", "reverse")
    there = CALL.map(shell(name))
    return {each: getattr(there, each) for each in names} | changed


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype) for name in KINDS for dtype in DTYPES if (name, dtype) != ("numba", "bfloat16")
    ],  # it has no such type
)
def test_a_call_is_described_without_reading_an_array(name, dtype):
    there = draw(cells.lstm, Case("device", initial=True), dtype).map(shell(name))
    described, inputs = problem.describe(cells.lstm, there.x, there.weights, initial=there.initial)
    assert str(described.library) == f"{name} array on cuda:0"
    assert (described.library.kind, described.library.index) == ("cuda", 0)
    assert (described.T, described.B, described.I, described.H, described.dtype.name) == (5, 3, 4, 6, dtype)
    assert inputs.x is there.x
    assert inputs.weights.w_hh is there.weights.w_hh
    assert inputs.initial == there.initial
    problem.describe_gradients(described, there.dy, tuple(KINDS[name]((3, 6), described.real.name) for _ in "hc"))


@every_library
def test_only_backends_for_the_device_are_considered(name):
    explanation = rnn_gpu.explain(**arguments(name))
    for backend in ("numpy_cpu", "numba_cpu"):
        told = f"x is a {name} array on cuda:0; this backend takes host arrays"
        assert explanation.reasons[backend] == told
        with pytest.raises(BackendError, match=told):
            rnn_gpu.forward(**arguments(name), backend=backend)


def test_a_gpu_backend_takes_no_host_arrays(monkeypatch):
    class Asked:
        device_kind = "cuda"
        copies_host_arrays = False

        def unavailable(self):
            raise AssertionError("asked, and so imported, for host arrays")

    monkeypatch.setattr(dispatch, "BACKENDS", {"gpu": Asked(), "numpy_cpu": dispatch.BACKENDS["numpy_cpu"]})
    explanation = rnn_gpu.explain(cells.lstm, CALL.x, CALL.weights)
    assert explanation.chosen == "numpy_cpu"
    assert explanation.reasons["gpu"] == "x is a numpy array on cpu; this backend takes arrays on a CUDA device"


def test_the_plan_of_the_chosen_backend_is_shown(monkeypatch):
    monkeypatch.setattr(type(dispatch.BACKENDS["numpy_cpu"]), "plan", lambda self, problem: "block\n132 tiles")
    text = str(rnn_gpu.explain(cells.lstm, CALL.x, CALL.weights, backend="numpy_cpu"))
    line = next(number for number, line in enumerate(text.splitlines()) if "runs this call" in line)
    assert [part.strip() for part in text.splitlines()[line + 1 : line + 3]] == ["block", "132 tiles"]


@every_library
def test_mixed_libraries_and_devices(name):
    other = next(each for each in KINDS if each != name)
    weights = CALL.weights.map(shell(name))

    def refused(message, **changed):
        with pytest.raises(ArgumentTypeError) as caught:
            problem.describe(**arguments(name, **changed))
        assert str(caught.value) == message

    expected = f"expected a {name} array on cuda:0 as x is, got a"
    w_hh = replace(weights, w_hh=shell(other)(CALL.weights.w_hh))
    refused(f"w_hh: {expected} {other} array on cuda:0", weights=w_hh)
    second = replace(weights, b_ih=shell(name, device=1)(CALL.weights.b_ih))
    refused(f"b_ih: {expected} {name} array on cuda:1", weights=second)
    refused(f"b_hh: {expected} numpy array on cpu", weights=replace(weights, b_hh=CALL.weights.b_hh))
    refused(f"initial[1] (c): {expected} numpy array on cpu", initial=(None, CALL.initial[1]))
    resets = np.zeros((5, 3), bool)
    refused(f"resets: {expected} {name} array on cuda:1", resets=shell(name, device=1)(resets))
    refused(f"resets: {expected} {other} array on cuda:0", resets=shell(other)(resets))
    with pytest.raises(ArgumentTypeError, match=f"w_hh: expected a numpy array on cpu as x is, got a {name} array"):
        problem.describe(**arguments(name, x=CALL.x))


@every_library
def test_lengths_on_the_device_are_read_and_checked(name):
    def given(values):
        return KINDS[name]((3,), "int64", host=np.array(values))

    _, inputs = problem.describe(**arguments(name, lengths=given([5, 0, 2])))
    assert isinstance(inputs.lengths, np.ndarray)
    assert inputs.lengths.tolist() == [5, 0, 2]
    with pytest.raises(ArgumentError, match="lengths: expected values from 0 to T = 5, got 6 in row 1"):
        problem.describe(**arguments(name, lengths=given([5, 6, 2])))


@every_library
def test_resets_on_the_device_stay_there(name):
    resets = KINDS[name]((5, 3), "bool")
    described, inputs = problem.describe(**arguments(name, resets=resets, lengths=[1, 2, 3]))
    assert inputs.resets is resets
    assert described.has_resets
    with pytest.raises(ArgumentError, match=r"resets: expected shape \(T, B\) = \(5, 3\), got shape \(3, 5\)"):
        problem.describe(**arguments(name, resets=KINDS[name]((3, 5), "bool")))
    with pytest.raises(ArgumentError, match="resets: expected dtype bool, got dtype float32"):
        problem.describe(**arguments(name, resets=KINDS[name]((5, 3), "float32")))


@every_library
@pytest.mark.parametrize("kind", [np.array, list])
def test_resets_on_the_host_are_cut_at_the_ends(name, kind):
    _, inputs = problem.describe(**arguments(name, resets=kind(np.ones((5, 3), bool).tolist()), lengths=[1, 2, 3]))
    assert inputs.resets.tolist() == [[t < length for length in (1, 2, 3)] for t in range(5)]


def test_a_state_left_out_is_zeros_of_the_callers_library(monkeypatch):
    made = []
    fake = ModuleType("cupy")
    fake.cuda = SimpleNamespace(Device=lambda index: made.append(index) or torch.no_grad())
    fake.zeros = lambda shape, dtype: made.append((shape, dtype)) or "zeros"
    monkeypatch.setitem(sys.modules, "cupy", fake)
    there = CALL.map(lambda array: _Cupy(array.shape, array.dtype.name, device=3))
    _, inputs = problem.describe(cells.lstm, there.x, there.weights, initial=(there.initial[0], None))
    assert inputs.initial == (there.initial[0], "zeros")
    assert made == [3, ((3, 6), np.float32)]


def test_frozen_weights_are_recognised_again():
    weights = replace(CALL.weights.map(shell("cupy")), prepared={})
    first, second = (problem.describe(cells.lstm, shell("cupy")(CALL.x), weights)[1].weights for _ in range(2))
    assert first is second


@pytest.mark.parametrize("wrong", [object(), "x", [1.0], {}])
def test_what_is_no_array_of_any_library(wrong):
    kind = f"{type(wrong).__module__}.{type(wrong).__qualname__}"
    with pytest.raises(ArgumentTypeError) as caught:
        library_of("x", wrong)
    assert str(caught.value) == f"x: expected a NumPy, CuPy, Numba or torch array, got {kind}"


def test_copies_and_casts():
    tensor = torch.ones(3, requires_grad=True)
    assert not copied(tensor).requires_grad
    assert copied(tensor).data_ptr() != tensor.data_ptr()
    assert cast_like(tensor, tensor) is tensor
    assert cast_like(tensor, torch.zeros(1, dtype=torch.float16)).dtype == torch.float16
    half = np.zeros(2, np.float16)
    assert cast_like(np.ones(2, np.float32), half).dtype == np.float16
    assert cast_like(half, half) is half
    with pytest.raises(ArgumentTypeError, match=r"converts dtypes .*, got numba\.cuda"):
        cast_like(_Numba((2,), "float32"), _Numba((2,), "float16"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_cross_to_torch_on_the_same_memory_without_waiting(dtype):
    """By DLPack, from an array of the host in the place of one of a device: the protocol is the same."""

    class Exporter:
        def __init__(self, array):
            self._array, self.dtype = array, array.dtype

        def view(self, dtype):
            return Exporter(self._array.view(dtype))

        def __dlpack__(self, *, stream):
            assert stream == -1
            return self._array.__dlpack__()

    array = np.arange(6).reshape(2, 3).astype(dtype_named(dtype))
    tensor = cuda_arrays.to_torch(Exporter(array))
    assert (str(tensor.dtype), tuple(tensor.shape)) == (f"torch.{dtype}", (2, 3))
    assert tensor.float().tolist() == [[0, 1, 2], [3, 4, 5]]
    array[0, 0] = 7
    assert float(tensor[0, 0]) == 7


def test_arrays_of_the_right_library_are_handed_on():
    tensor = torch.zeros(2)
    assert cuda_arrays.to_torch(tensor) is tensor
    numba = _Numba((2,), "float32")
    assert cuda_arrays.to_numba(numba) is numba


def test_cupy_arrays_like_those_before_are_judged_anew():
    """Arrays of CuPy's own, on memory that nobody reads."""
    cupy = pytest.importorskip("cupy")
    memory = np.zeros(1 << 16, np.uint8)

    def made(array, dtype=None, device=0):
        unowned = cupy.cuda.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, device_id=device)
        return cupy.ndarray(array.shape, dtype or array.dtype, cupy.cuda.MemoryPointer(unowned, 0))

    there = CALL.map(made)

    def described(**changed):
        return problem.describe(
            there.cell, **{"x": there.x, "weights": there.weights, "initial": there.initial} | changed
        )

    first, _ = described()
    assert str(first.library) == "cupy array on cuda:0"
    again, inputs = described(x=made(CALL.x))
    assert again is first
    assert inputs.weights is there.weights
    wrong = [
        ({"x": made(CALL.x, "float64")}, "x: expected dtype float32 as the weights are"),
        ({"x": made(CALL.x, device=1)}, "w_hh: expected a cupy array on cuda:1 as x is"),
        ({"weights": replace(there.weights, b_ih=made(CALL.weights.b_ih, device=1))}, "b_ih: expected a cupy array"),
        ({"weights": replace(there.weights, b_hh=made(CALL.weights.b_hh[1:]))}, "b_hh: expected shape"),
        ({"weights": replace(there.weights, w_ih=CALL.weights.w_ih)}, "w_ih: expected a cupy array on cuda:0 as x is"),
        (
            {"initial": (there.initial[0], made(CALL.initial[1], "int32"))},
            r"initial\[1\] \(c\): expected dtype float32",
        ),
        ({"reverse": 1}, "reverse: expected a bool"),
    ]
    for changed, message in wrong:
        for _ in range(2):
            with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
                described(**changed)
    assert described()[0] is first


@pytest.mark.parametrize("present", [True, False])
def test_torchs_stream_is_asked_for_by_the_shortest_way_there_is(monkeypatch, present):
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 70 + device, raising=False)
    if not present:
        monkeypatch.delattr(torch._C, "_cuda_getCurrentRawStream")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=90 + device))
    assert cuda_arrays.STREAMS["torch"](3) == (73 if present else 93)
