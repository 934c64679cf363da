"""init_weights: shapes, distributions, dtypes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, sigmoid, tanh
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.weights import init_weights

CELLS = list(cells.ALL.values())
SCHEMES = ("torch", "keras")


@cell(gates="fg", states="h", forget="f", vectors={"a": (2.0, 3.0), "b": (-5.0, -4.0)})
def leaky(Wx, U, h, v):
    """A cell whose f has no recurrent product and g no input."""
    f = sigmoid(Wx.f + v.a * h)
    return f * h + (1 - f) * tanh(v.b + U.g(h))


def names_of(weights):
    return [name for name, _ in weights.items()]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_shapes(cell, scheme):
    inputs, hidden = 3, 5
    g, s = len(cell.input_gates) * hidden, len(cell.recurrent_gates) * hidden
    expected = {"w_ih": (g, inputs), "w_hh": (s, hidden), "b_ih": (g,), "b_hh": (s,)}
    if not s:
        del expected["w_hh"], expected["b_hh"]
    expected |= dict.fromkeys(cell.vectors, (hidden,))
    weights = init_weights(cell, inputs, hidden, scheme=scheme)
    assert {name: array.shape for name, array in weights.items()} == expected
    assert {array.dtype for _, array in weights.items()} == {np.dtype("float32")}
    assert all(array.flags.c_contiguous and array.flags.writeable for _, array in weights.items())


def test_gates_without_one_of_the_products():
    weights = init_weights(leaky, 3, 4, scheme="keras")
    assert weights.w_ih.shape == (4, 3)
    assert weights.w_hh.shape == (4, 4)
    assert_array_equal(weights.b_ih, np.ones(4))
    assert_array_equal(weights.b_hh, np.zeros(4))


def test_a_forget_gate_without_input_product_has_its_one_in_b_hh():
    @cell(gates="fn", states="h", forget="f")
    def inward(Wx, U, h):
        f = sigmoid(U.f(h))
        return f * h + (1 - f) * tanh(Wx.n + U.n(h))

    weights = init_weights(inward, 3, 2, scheme="keras")
    assert_array_equal(weights.b_ih, np.zeros(2))
    assert_array_equal(weights.b_hh, np.repeat([1, 0], 2))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cell", [cells.lstm, cells.indrnn], ids=lambda cell: cell.name)
def test_projected_input_leaves_out_w_ih_only(cell, scheme):
    given = names_of(init_weights(cell, 3, 4, scheme=scheme))
    assert names_of(init_weights(cell, None, 4, scheme=scheme)) == [name for name in given if name != "w_ih"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_bias_changes_nothing_else(scheme):
    whole = dict(init_weights(cells.lstm_peephole, 3, 4, scheme=scheme).items())
    weights = init_weights(cells.lstm_peephole, 3, 4, scheme=scheme, bias=False)
    assert set(whole) - set(names_of(weights)) == {"b_ih", "b_hh"}
    for name, array in weights.items():
        assert_array_equal(array, whole[name])


def test_torch_scheme_is_uniform_within_one_over_root_h():
    hidden = 100
    for name, array in init_weights(cells.lstm_peephole, 50, hidden, "float64").items():
        scaled = array * np.sqrt(hidden)
        assert np.abs(scaled).max() <= 1, name
        assert np.abs(scaled).max() > 0.95, name
        assert abs(scaled.mean()) < 5 * np.sqrt(1 / 3 / scaled.size), name
        assert abs((scaled**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / scaled.size), name


def test_keras_input_matrix_is_glorot_uniform_over_the_whole_kernel():
    w_ih = init_weights(cells.gru, 40, 60, "float64", scheme="keras").w_ih
    scaled = w_ih / np.sqrt(6 / (40 + 3 * 60))
    assert 0.99 < np.abs(scaled).max() <= 1
    assert abs((scaled**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / scaled.size)


@pytest.mark.parametrize("hidden", [1, 2, 33])
@pytest.mark.parametrize("cell", [cells.rnn, cells.lstm, cells.gru], ids=lambda cell: cell.name)
def test_keras_recurrent_kernel_has_orthonormal_rows(cell, hidden):
    kernel = init_weights(cell, 3, hidden, "float64", scheme="keras").w_hh.T
    assert_allclose(kernel @ kernel.T, np.eye(hidden), atol=1e-13)


def test_orthogonal_matrices_favour_no_sign():
    corners = [init_weights(cells.rnn, 1, 3, "float64", seed, scheme="keras").w_hh[0, 0] for seed in range(300)]
    assert abs(np.mean(corners)) < 5 * np.sqrt(1 / 3 / len(corners))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_keras_biases_are_zero_but_for_the_forget_gate(cell):
    hidden = 3
    weights = init_weights(cell, 2, hidden, scheme="keras")
    expected = [1.0 if gate == cell.forget else 0.0 for gate in cell.input_gates]
    assert_array_equal(weights.b_ih, np.repeat(expected, hidden))
    assert weights.b_hh is None or not weights.b_hh.any()


def test_the_lstm_forgets_by_its_gate_f():
    b_ih = init_weights(cells.lstm, 2, 3, scheme="keras").b_ih
    assert_array_equal(b_ih, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_vectors_are_drawn_in_the_ranges_that_the_cell_declares(scheme):
    vectors = init_weights(leaky, 1, 500, scheme=scheme).vectors
    for name, (low, high) in leaky.vector_ranges.items():
        scaled = (vectors[name] - low) / (high - low)
        assert 0.0 <= scaled.min() < 0.05
        assert 0.95 < scaled.max() <= 1.0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float64", np.float64),
        (np.float32, np.float32),
        (">f4", np.float32),
        (np.dtype("float16"), np.float16),
        ("bfloat16", ml_dtypes.bfloat16),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
    ],
)
def test_dtypes_round_the_same_draw(dtype, expected, scheme):
    exact = dict(init_weights(cells.lstm_peephole, 3, 4, "float64", 7, scheme=scheme).items())
    for name, array in init_weights(cells.lstm_peephole, 3, 4, dtype, 7, scheme=scheme).items():
        assert array.dtype == np.dtype(expected)
        assert array.dtype.isnative
        assert_array_equal(array, exact[name].astype(expected))


def test_seeds():
    def draw(seed):
        return init_weights(cells.lstm, 3, 4, seed=seed).w_ih

    rng = np.random.default_rng(5)
    first = draw(rng)
    assert_array_equal(draw(5), first)
    assert_array_equal(draw(np.int64(5)), first)
    assert (draw(rng) != first).any()
    assert (draw(6) != first).any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cell": "lstm"}, ArgumentTypeError, r"cell: expected a cell.*got 'lstm'"),
        ({"input_size": 0}, ArgumentError, r"input_size: expected .*at least 1, got 0"),
        ({"input_size": 2.0}, ArgumentTypeError, r"input_size: expected a whole number, got 2\.0"),
        ({"hidden_size": -3}, ArgumentError, r"hidden_size: expected .*at least 1, got -3"),
        ({"hidden_size": True}, ArgumentError, r"hidden_size: expected .*got True"),
        ({"hidden_size": None}, ArgumentTypeError, r"hidden_size: expected a whole number, got None"),
        ({"dtype": "int32"}, ArgumentError, r"dtype: expected one of float64, .*, got 'int32'"),
        ({"dtype": "float8"}, ArgumentTypeError, r"dtype: expected one of float64, .*, got 'float8'"),
        ({"dtype": None}, ArgumentError, r"dtype: expected .*got None"),
        ({"seed": -1}, ArgumentError, r"seed: expected .*at least 0, got -1"),
        ({"seed": "x"}, ArgumentTypeError, r"seed: expected a whole number.*, got 'x'"),
        ({"scheme": "he"}, ArgumentError, r"scheme: expected one of torch, keras, got 'he'"),
    ],
)
def test_what_is_refused(change, error, message):
    arguments = {"cell": cells.lstm, "input_size": 3, "hidden_size": 4} | change
    with pytest.raises(error, match=message):
        init_weights(**arguments)


def test_no_framework_is_imported():
    code = (
        "import sys, rnn_gpu.weights\n"
        "print(*{'torch', 'keras', 'tensorflow', 'onnx', 'onnxruntime', 'jax'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
