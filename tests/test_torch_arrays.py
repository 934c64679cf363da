"""torch tensors in, torch tensors out, without a copy on the way in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.backends import HOST_TARGETS, REFERENCE, Target
from support.calls import draw
from support.cases import CASES, DTYPES, Case
from support.cells import CELLS
from support.errors import assert_close, assert_same_bits

import rnn_gpu

CHOSEN = [case for case in CASES if case.name in {"plain", "no_rows", "no_steps", "projected", "everything"}]


def tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of the array's bits."""
    if array.dtype.name == "bfloat16":
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.tensor(array)


def array(result: object) -> np.ndarray:
    assert isinstance(result, torch.Tensor)
    assert not result.requires_grad
    return result.view(torch.int16).numpy().view("bfloat16") if result.dtype == torch.bfloat16 else result.numpy()


every_target = pytest.mark.parametrize("target", HOST_TARGETS, ids=str)


@pytest.mark.parametrize("case", CHOSEN, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@every_target
def test_tensors_give_what_arrays_give(target, dtype, case):
    call = draw(CELLS["lstm_peephole"], case, dtype)
    assert_same_bits(Target(target.name, put=tensor, get=array).run(call), target.run(call))


@pytest.mark.parametrize(
    "change", [torch.Tensor.requires_grad_, torch.nn.Parameter], ids=["requires_grad", "Parameter"]
)
@every_target
def test_tensors_that_require_gradients(target, change):
    call = draw(CELLS["gru"], Case("plain", initial=True), "float32")
    learned = Target(target.name, put=lambda array: change(tensor(array)), get=array)
    with torch.no_grad():
        assert_same_bits(learned.run(call), target.run(call))
    with pytest.raises(rnn_gpu.errors.ArgumentTypeError, match=r"x: expected a tensor that torch does not follow"):
        learned.run(call)


@pytest.mark.parametrize("dtype", DTYPES)
@every_target
def test_tensors_of_any_strides(target, dtype):
    call = draw(CELLS["lstm"], Case("plain", initial=True), dtype)

    def strided(array: np.ndarray) -> torch.Tensor:
        around = tensor(array).repeat_interleave(2, dim=-1)
        return around.transpose(0, -1).contiguous().transpose(0, -1)[..., ::2]

    assert not strided(call.x).is_contiguous()
    # BLAS sums in another order where a matrix lies otherwise in memory.
    assert_close(Target(target.name, put=strided, get=array).run(call), target.run(call), 16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_are_not_copied(dtype):
    call = draw(CELLS["lstm"], Case("plain", initial=True), dtype).map(tensor)
    inputs = rnn_gpu.forward(*call.arguments(), REFERENCE.name).tape.inputs
    seen = [inputs.x, *(array for _, array in inputs.weights.items()), *inputs.initial]
    given = [call.x, *(each for _, each in call.weights.items()), *call.initial]
    assert [array.__array_interface__["data"][0] for array in seen] == [each.data_ptr() for each in given]


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list], ids=["tensors", "arrays", "lists"])
def test_lengths_and_resets_of_any_kind(kind):
    call = draw(CELLS["rnn"], Case("lengths", lengths=(5, 0, 3), resets=((0, 0), (2, 2))), "float32")
    expected = REFERENCE.run(call)
    given = replace(call.map(tensor), lengths=kind(call.lengths.tolist()), resets=kind(call.resets.tolist()))
    y, last, _ = rnn_gpu.forward(*given.arguments(), REFERENCE.name)
    assert_same_bits({"y": array(y), "last_h": array(*last)}, {key: expected[key] for key in ("y", "last_h")})


@every_target
def test_a_step_on_tensors(target):
    call = draw(CELLS["lstm"], Case("step", T=1, initial=True), "float32")
    y, last, _ = rnn_gpu.forward(*call.arguments(), target.name)
    tensors = call.map(tensor)
    found = rnn_gpu.step(call.cell, tensors.x[0], tensors.weights, tensors.initial, backend=target.name)
    assert_same_bits(dict(enumerate(map(array, found))), dict(enumerate(last)))
    assert_same_bits({"y": array(found[0])}, {"y": y[0]})


@every_target
@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_a_step_on_tensors_with_resets(target, kind):
    call = draw(CELLS["lstm"], Case("step", T=1, B=3, initial=True), "float32")
    tensors = call.map(tensor)
    before = [state.clone() for state in tensors.initial]
    given = kind([True, False, True])
    found = rnn_gpu.step(call.cell, tensors.x[0], tensors.weights, tensors.initial, resets=given, backend=target.name)
    states = tuple(np.where([[True], [False], [True]], np.float32(0), state) for state in call.initial)
    expected = rnn_gpu.step(call.cell, call.x[0], call.weights, states, backend=target.name)
    assert_same_bits(dict(enumerate(map(array, found))), dict(enumerate(expected)))
    assert all(map(torch.equal, before, tensors.initial)), "the caller's arrays are never written"


def test_a_call_like_one_before_is_judged_anew():
    call = draw(CELLS["gru"], Case("plain", initial=True), "float32")
    x, weights, initial = tensor(call.x), call.weights.map(tensor), tuple(map(tensor, call.initial))

    def run(x=x, initial=initial, **changed):
        return rnn_gpu.forward(CELLS["gru"], x, replace(weights, **changed), initial, backend="numpy_cpu").y

    expected = run()
    assert torch.equal(run(), expected)
    wrong = [
        ({"x": x.double()}, "x: expected dtype float32 as the weights are, got float64"),
        ({"x": x.numpy()}, "w_hh: expected a numpy array on cpu as x is"),
        ({"x": x.clone().requires_grad_()}, "x: expected a tensor that torch does not follow"),
        ({"x": x.to_sparse()}, r"x: expected a dense tensor, got one of layout torch\.sparse_coo"),
        ({"x": x.to("meta")}, "w_hh: expected a torch array on meta as x is"),
        ({"w_hh": weights.w_hh.numpy()}, "w_hh: expected a torch array on cpu as x is"),
        ({"w_hh": weights.w_hh[:, 1:]}, "w_hh: expected"),
        ({"b_hh": weights.b_hh.clone().requires_grad_()}, "b_hh: expected a tensor that torch does not follow"),
        ({"b_ih": weights.b_ih.to("meta")}, "b_ih: expected a torch array on cpu as x is"),
        ({"initial": (initial[0].double(),)}, r"initial\[0\] \(h\): expected dtype float32"),
    ]
    for changed, message in wrong:
        for _ in range(2):
            with pytest.raises(rnn_gpu.errors.RnnGpuError, match=message):
                run(**changed)
    assert torch.equal(run(), expected)


@every_target
def test_frozen_tensors_are_prepared_once(target):
    call = draw(CELLS["lstm_peephole"], Case("plain"), "float32")
    frozen, x = call.weights.map(tensor).frozen(), tensor(call.x)
    first, *again = (rnn_gpu.forward(call.cell, x, frozen, backend=target.name).y for _ in range(3))
    prepared = [id(found) for found in frozen.prepared.values()]
    assert prepared
    assert_same_bits({"y": array(first)}, {"y": target.run(call)["y"]})
    for y in again:
        assert torch.equal(y, first)
    assert [id(found) for found in frozen.prepared.values()] == prepared
