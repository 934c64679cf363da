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
