"""The conversions from and to torch, Keras and ONNX as arrangements of arrays: exact both ways, and what they refuse.

That the arrangements are the right ones is checked against each framework in its own file.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from rnn_gpu import cells
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.weights import (
    Weights,
    from_keras,
    from_onnx,
    from_torch,
    init_weights,
    layers_from_torch,
    to_keras,
    to_onnx,
    to_torch,
)
from rnn_gpu.weights import keras as keras_layout
from rnn_gpu.weights import onnx as onnx_layout
from rnn_gpu.weights import torch as torch_layout

DTYPES = ("float64", "float32", "float16", "bfloat16")


def layers(orders):
    """Weights of any cell of the framework, size and dtype, with biases or without."""
    size = st.integers(1, 5)
    return st.builds(
        lambda cell, *sizes, **options: (cell, init_weights(cell, *sizes, **options)),
        st.sampled_from(list(orders)),
        size,
        size,
        dtype=st.sampled_from(DTYPES),
        seed=st.integers(0, 99),
        bias=st.booleans(),
    )


def arrays_of(found):
    """A name for each array of Weights, a dict, a list or a named tuple."""
    if isinstance(found, Weights):
        return dict(found.items())
    pairs = found.items() if isinstance(found, dict) else enumerate(found)
    return {name: array for name, array in pairs if array is not None}


def assert_same(found, expected):
    found, expected = arrays_of(found), arrays_of(expected)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert_array_equal(found[name], array)


def assert_own_arrays(found, given):
    for array in arrays_of(found).values():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in arrays_of(given).values())


@settings(deadline=None)
@given(layers(torch_layout.ORDERS), st.integers(0, 3), st.booleans(), st.sampled_from(["", "encoder.rnn."]))
def test_torch_there_and_back(layer, number, reverse, prefix):
    cell, weights = layer
    where = {"layer": number, "reverse": reverse, "prefix": prefix}
    state_dict = to_torch(cell, weights, **where)
    back = from_torch(cell, state_dict, **where)
    assert_same(back, weights)
    assert_same(to_torch(cell, back, **where), state_dict)
    assert_own_arrays(state_dict, weights)
    assert_own_arrays(back, state_dict)


@settings(deadline=None)
@given(layers(keras_layout.ORDERS))
def test_keras_there_and_back(layer):
    cell, weights = layer
    listed = to_keras(cell, weights)
    back = from_keras(cell, listed)
    assert_same(to_keras(cell, back), listed)
    if cell is not cells.gru and weights.b_ih is not None:
        weights = Weights(weights.w_ih, weights.w_hh, weights.b_ih + weights.b_hh, np.zeros_like(weights.b_hh))
    assert_same(back, weights)
    assert_own_arrays(listed, weights)
    assert_own_arrays(back, listed)


@settings(deadline=None)
@given(layers(onnx_layout.ORDERS), st.integers(1, 2))
def test_onnx_there_and_back(layer, directions):
    cell, weights = layer
    both = [weights, weights.map(lambda array: -array)][:directions]
    node = to_onnx(cell, *both)
    assert node.W.shape[0] == directions
    for direction, expected in enumerate(both):
        back = from_onnx(cell, *node, direction=direction)
        assert_same(back, expected)
        assert_own_arrays(back, node)
    assert_own_arrays(node, weights)


@pytest.mark.parametrize("missing", ["b_ih", "b_hh"])
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru], ids=lambda cell: cell.name)
def test_a_bias_without_the_other_is_joined_by_zeros(cell, missing):
    weights = init_weights(cell, 2, 3, "float64")
    lone = Weights(
        weights.w_ih, weights.w_hh, **{name: getattr(weights, name) for name in {"b_ih", "b_hh"} - {missing}}
    )
    biases = {name: getattr(weights, name) for name in ("b_ih", "b_hh")} | {missing: np.zeros_like(weights.b_ih)}
    filled = Weights(weights.w_ih, weights.w_hh, **biases)
    assert_same(to_torch(cell, lone), to_torch(cell, filled))
    assert_same(to_keras(cell, lone), to_keras(cell, filled))
    assert_same(to_onnx(cell, lone), to_onnx(cell, filled))
    without = init_weights(cell, 2, 3, "float64", bias=False)
    assert_same(to_onnx(cell, without, lone).B[1:], to_onnx(cell, lone).B)
    assert not to_onnx(cell, without, lone).B[0].any()


def test_onnx_without_p_has_no_peepholes():
    node = to_onnx(cells.lstm_peephole, init_weights(cells.lstm_peephole, 2, 3))
    vectors = from_onnx(cells.lstm_peephole, *node._replace(P=None)).vectors
    assert list(vectors) == list(cells.lstm_peephole.vectors)
    assert not any(vector.any() for vector in vectors.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_torch_tensors_are_read(dtype):
    module = torch.nn.GRU(2, 3).to(dtype)
    for source in (module.state_dict(), dict(module.named_parameters())):
        weights = from_torch(cells.gru, source)
        assert weights.w_hh.dtype.name == str(dtype).removeprefix("torch.")
        assert_array_equal(weights.w_hh.astype("float64"), module.weight_hh_l0.detach().double().numpy())


class OnlyDLPack:
    """An array of which one can have nothing but DLPack."""

    def __init__(self, array):
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


def test_arrays_that_have_only_dlpack_are_read():
    weights = init_weights(cells.lstm, 2, 3)
    assert_same(from_torch(cells.lstm, to_torch(cells.lstm, weights.map(OnlyDLPack))), weights)


def test_strided_and_foreign_endian_arrays_are_read():
    weights = init_weights(cells.lstm, 2, 3)
    given = weights.map(lambda array: np.repeat(array, 2, axis=0)[::2].astype(">f4"))
    assert_same(from_torch(cells.lstm, to_torch(cells.lstm, given)), weights)


def test_all_layers_and_directions_of_a_torch_module():
    state_dict = torch.nn.LSTM(2, 3, num_layers=3, bidirectional=True).state_dict(prefix="net.")
    found = layers_from_torch(cells.lstm, state_dict, prefix="net.")
    assert len(found) == 3
    for number, directions in enumerate(found):
        assert len(directions) == 2
        for reverse, weights in zip((False, True), directions, strict=True):
            assert_same(weights, from_torch(cells.lstm, state_dict, layer=number, reverse=reverse, prefix="net."))
    assert [len(layer) for layer in layers_from_torch(cells.gru, torch.nn.GRU(2, 3).state_dict())] == [1]


def test_a_state_dict_with_a_layer_missing_is_refused():
    state_dict = torch.nn.LSTM(2, 3, num_layers=3).state_dict()
    del state_dict["weight_hh_l1"]
    with pytest.raises(
        ArgumentError, match=r"state_dict: expected key 'weight_hh_l1', got 11 keys, the nearest 'weight"
    ):
        layers_from_torch(cells.lstm, state_dict)


LSTM = init_weights(cells.lstm, 2, 3)
TORCH = to_torch(cells.lstm, LSTM)
KERAS = to_keras(cells.lstm, LSTM)
ONNX = to_onnx(cells.lstm, LSTM)
WIDE = init_weights(cells.lstm, 5, 3)
PEEPHOLE = init_weights(cells.lstm_peephole, 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: from_torch(cells.mgu, TORCH),
            ArgumentError,
            r"cell: .*torch has \(rnn, rnn_relu, lstm, gru\), got .*mgu",
        ),
        (lambda: to_torch(cells.gru_2014, LSTM), ArgumentError, r"cell: .*torch has .*got .*gru_2014"),
        (lambda: from_keras(cells.janet, KERAS), ArgumentError, r"cell: .*Keras has \(rnn, .*gru_2014\), got .*janet"),
        (lambda: to_onnx(cells.lstm_cifg, LSTM), ArgumentError, r"cell: .*ONNX has .*got .*lstm_cifg"),
        (lambda: from_onnx("lstm", *ONNX), ArgumentTypeError, r"cell: expected a cell.*got 'lstm'"),
        (lambda: from_torch(cells.lstm, torch.nn.LSTM(2, 3)), ArgumentTypeError, r"state_dict: .*mapping.*got LSTM"),
        (lambda: from_torch(cells.lstm, {}), ArgumentError, r"state_dict: expected key 'weight_hh_l0', got no keys"),
        (
            lambda: from_torch(cells.lstm, TORCH, reverse=True),
            ArgumentError,
            r"key 'weight_hh_l0_reverse', got 4 keys, the nearest 'weight_hh_l0'",
        ),
        (
            lambda: from_torch(cells.lstm, {key: TORCH[key] for key in list(TORCH)[:3]}),
            ArgumentError,
            r"state_dict: expected key 'bias_hh_l0'",
        ),
        (
            lambda: from_torch(cells.lstm, torch.nn.LSTM(2, 3, proj_size=2).state_dict()),
            ArgumentError,
            r"state_dict: expected a module without a projection \(proj_size=0\), got key 'weight_hr_l0'",
        ),
        (
            lambda: from_torch(cells.gru, TORCH),
            ArgumentError,
            r"state_dict\['weight_hh_l0'\]: expected shape \(G\*H, H\) with G=3, H=3, got shape \(12, 3\)",
        ),
        (
            lambda: from_torch(cells.lstm, TORCH | {"bias_hh_l0": np.zeros(3)}),
            ArgumentError,
            r"state_dict\['bias_hh_l0'\]: expected shape \(G\*H\) with G=4, H=3, I=2, got shape \(3,\)",
        ),
        (
            lambda: from_torch(cells.lstm, TORCH | {"weight_hh_l0": np.zeros((12, 3), int)}),
            ArgumentTypeError,
            r"state_dict\['weight_hh_l0'\]: expected an array of float64, .*, got dtype int64",
        ),
        (
            lambda: from_torch(cells.lstm, TORCH | {"weight_hh_l0": torch.zeros(12, 3, device="meta")}),
            ArgumentTypeError,
            r"state_dict\['weight_hh_l0'\]: expected an array that NumPy can read, got Tensor",
        ),
        (lambda: from_keras(cells.lstm, np.zeros((3, 3))), ArgumentTypeError, r"weights_list: .*list.*got ndarray"),
        (lambda: from_keras(cells.lstm, KERAS + KERAS), ArgumentError, r"weights_list: expected 2 or 3.*got 6"),
        (
            lambda: from_keras(cells.lstm, [KERAS[0].T, *KERAS[1:]]),
            ArgumentError,
            r"weights_list\[0\]: expected shape \(I, G\*H\) with .*, got shape \(12, 2\)",
        ),
        (
            lambda: from_keras(cells.gru, to_keras(cells.gru_2014, init_weights(cells.gru_2014, 2, 3))),
            ArgumentError,
            r"weights_list\[2\]: expected shape \(2, G\*H\) with .*, got shape \(9,\)",
        ),
        (
            lambda: from_keras(cells.gru_2014, to_keras(cells.gru, init_weights(cells.gru, 2, 3))),
            ArgumentError,
            r"weights_list\[2\]: expected shape \(G\*H\).*, got shape \(2, 9\)",
        ),
        (lambda: from_onnx(cells.lstm, ONNX.W[0], ONNX.R), ArgumentError, r"W: expected shape \(D, G\*H, I\) with"),
        (lambda: from_onnx(cells.lstm, *ONNX, direction=1), ArgumentError, r"direction: expected .*D = 1, got 1"),
        (lambda: from_onnx(cells.lstm, *ONNX, direction=-1), ArgumentError, r"direction: expected .*got -1"),
        (
            lambda: from_onnx(cells.lstm, *to_onnx(cells.lstm_peephole, PEEPHOLE)),
            ArgumentError,
            r"P: expected None for lstm, as only lstm_peephole has peepholes",
        ),
        (
            lambda: from_onnx(cells.lstm_peephole, ONNX.W, ONNX.R, ONNX.B, np.zeros((1, 12))),
            ArgumentError,
            r"P: expected shape \(D, 3\*H\) with .*got shape \(1, 12\)",
        ),
        (lambda: to_onnx(cells.lstm), ArgumentError, r"weights: expected one Weights, or two.*got 0"),
        (lambda: to_onnx(cells.lstm, LSTM, WIDE), ArgumentError, r"weights: expected directions of the same sizes"),
        (lambda: to_torch(cells.lstm, KERAS), ArgumentTypeError, r"weights: expected Weights, got list"),
        (
            lambda: to_torch(cells.lstm, Weights(None, LSTM.w_hh)),
            ArgumentTypeError,
            r"weights\.w_ih: expected an array of float64, .*got NoneType",
        ),
        (
            lambda: to_onnx(cells.lstm_peephole, LSTM),
            ArgumentTypeError,
            r"weights\.vectors\['p_i'\]: expected an array .*got NoneType",
        ),
        (
            lambda: to_keras(cells.lstm, Weights(LSTM.w_ih, LSTM.w_hh.T)),
            ArgumentError,
            r"weights\.w_hh: expected shape \(G\*H, H\) with G=4, H=12, got shape \(3, 12\)",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bfloat16_comes_back_as_bfloat16():
    weights = from_keras(cells.gru, to_keras(cells.gru, init_weights(cells.gru, 2, 3, "bfloat16")))
    assert {array.dtype for _, array in weights.items()} == {np.dtype(ml_dtypes.bfloat16)}
