"""Weights read from ONNX nodes compute what onnxruntime computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.weights import OnnxWeights, from_onnx, to_onnx

NODES = {
    "rnn": ("RNN", {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
    "rnn_sigmoid": ("RNN", {"activations": ["Sigmoid"]}),
    "lstm": ("LSTM", {}),
    "lstm_peephole": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "gru_2014": ("GRU", {"linear_before_reset": 0}),
}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
STEPS, BATCH, INPUTS, HIDDEN = 7, 4, 3, 5


def run_node(name, node, direction, x, initial, lengths):
    """y (T, D, B, H) and the last states (D, B, H), by onnxruntime on the CPU."""
    op, attributes = NODES[name]
    if "activations" in attributes:
        attributes = {"activations": attributes["activations"] * len(node.W)}
    given = {"X": x, "W": node.W, "R": node.R, "B": node.B, "lengths": lengths}
    given |= dict(zip(("h0", "c0"), initial, strict=False))
    if op == "LSTM":
        given["P"] = node.P
    given = {key: array for key, array in given.items() if array is not None}
    order = ["X", "W", "R", "B", "lengths", "h0"] + (["c0", "P"] if op == "LSTM" else [])
    outputs = ["Y", "h"] + (["c"] if op == "LSTM" else [])
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node(
                op,
                [key if key in given else "" for key in order],
                outputs,
                hidden_size=HIDDEN,
                direction=direction,
                **attributes,
            )
        ],
        name,
        [
            helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for key, array in given.items()
        ],
        [helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, None) for key in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *last = session.run(outputs, given)
    return y, last


def random_node(cell, n_directions, rng):
    width = len(cell.gates) * HIDDEN
    shapes = [(width, INPUTS), (width, HIDDEN), (2 * width,), (len(cell.vectors) * HIDDEN,) if cell.vectors else None]
    return OnnxWeights(
        *(
            None if shape is None else (rng.standard_normal((n_directions, *shape)) / np.sqrt(HIDDEN)).astype("float32")
            for shape in shapes
        )
    )


@pytest.mark.parametrize("lengths", [None, [3, 7, 0, 5]], ids=["whole", "lengths"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", NODES)
def test_outputs_are_those_of_onnxruntime(name, direction, lengths):
    cell = getattr(cells, name)
    rng = np.random.default_rng(5)
    node = random_node(cell, len(DIRECTIONS[direction]), rng)
    x = rng.standard_normal((STEPS, BATCH, INPUTS)).astype("float32")
    initial = [rng.standard_normal((len(node.W), BATCH, HIDDEN)).astype("float32") for _ in cell.states]
    lengths = None if lengths is None else np.array(lengths, "int32")

    expected_y, expected_last = run_node(name, node, direction, x, initial, lengths)

    for d, reverse in enumerate(DIRECTIONS[direction]):
        start = tuple(state[d] for state in initial)
        weights = from_onnx(cell, *node, direction=d)
        y, last, _ = rnn_gpu.forward(cell, x, weights, start, lengths=lengths, reverse=reverse)
        assert_allclose(y, expected_y[:, d], rtol=0, atol=1e-5)
        for state, begun, expected in zip(last, start, expected_last, strict=True):
            # Of a row of length 0, onnxruntime returns a zero state, this package the initial one.
            empty = np.zeros(BATCH, bool) if lengths is None else lengths == 0
            assert_array_equal(expected[d][empty], 0)
            assert_array_equal(state[empty], begun[empty])
            assert_allclose(state[~empty], expected[d][~empty], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NODES)
def test_a_node_takes_what_to_onnx_returns(name):
    cell = getattr(cells, name)
    node = random_node(cell, 2, np.random.default_rng(6))
    found = to_onnx(cell, *(from_onnx(cell, *node, direction=d) for d in (0, 1)))
    for array, expected in zip(found, node, strict=True):
        assert (array is None) == (expected is None)
        if array is not None:
            assert_array_equal(array, expected)
