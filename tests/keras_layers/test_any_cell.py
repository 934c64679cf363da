"""RNN: any cell as a Keras layer, beside Keras' own loop over the same cell, and saved and loaded."""

from __future__ import annotations

import inspect
import json

import keras
import numpy as np
import pytest
from support.cells import CELLS, USERS
from support.keras_pairs import B, H, I, T, assert_same_loop, data

import rnn_gpu.keras
from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, sigmoid, tanh
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.keras import RNN, RNNCell


@cell(gates="zn", states="h")
def gated(Wx, U, h):
    """A gate and a candidate."""
    z = sigmoid(Wx.z + U.z(h))
    return z * h + (1 - z) * tanh(Wx.n + U.n(h))


def another_gated():
    """Another cell of that name."""

    @cell(gates="zn", states="h")
    def gated(Wx, U, h):
        """The gate the other way round."""
        z = sigmoid(Wx.z + U.z(h))
        return (1 - z) * h + z * tanh(Wx.n + U.n(h))

    return gated


HOLES = np.random.default_rng(4).random((B, T)) < 0.7
RIGHT = np.arange(T) < np.array([7, 3, 5, 1, 7, 4, 2, 6])[:, None]


def tensor(array):
    return np.asarray(keras.ops.convert_to_numpy(array))


def weights_of(layer, own):
    return rnn_gpu.Weights.of({k: tensor(v) for k, v in layer.cell.weights_by_name().items()}, own.vectors)


@pytest.mark.parametrize("name", CELLS)
def test_any_cell_is_the_forward_pass(name):
    own, x = CELLS[name], data()
    layer = RNN(own, H, return_sequences=True, return_state=True, bias_initializer="random_normal")
    y, *last = map(tensor, layer(x))
    weights = weights_of(layer, own)
    expected = rnn_gpu.forward(own, np.ascontiguousarray(x.transpose(1, 0, 2)), weights)
    np.testing.assert_array_equal(y, expected.y.transpose(1, 0, 2))
    for found, state in zip(last, expected.last, strict=True):
        np.testing.assert_array_equal(found, state)
    shapes = rnn_gpu.init_weights(own, I, H)
    for key, array in weights.items():
        assert array.shape == dict(shapes.items())[key].shape


@pytest.mark.parametrize(
    ("name", "cell_options", "options", "mask"),
    [
        ("lstm_peephole", {}, {"return_sequences": True}, None),
        ("gru_2014", {"use_bias": False}, {"return_state": True}, HOLES),
        ("gru", {"dropout": 0.4, "recurrent_dropout": 0.3}, {"return_sequences": True}, RIGHT),
        ("indrnn", {"dropout": 0.4}, {"go_backwards": True, "return_sequences": True}, RIGHT),
        ("lstm", {"recurrent_dropout": 0.5}, {"stateful": True}, None),
        ("janet", {}, {"return_sequences": True, "zero_output_for_mask": True}, HOLES),
        *((name, {}, {"return_sequences": True, "return_state": True}, None) for name in USERS),
    ],
)
def test_options_are_those_of_kerass_loop(name, cell_options, options, mask):
    assert_same_loop(CELLS[name], cell_options, options, mask)


def test_initial_values_are_those_of_keras():
    layer, theirs = RNN(cells.lstm, 50), keras.layers.LSTM(50)
    layer.build((None, 4, 20))
    theirs.build((None, 4, 20))
    mine = dict(zip(("kernel", "recurrent_kernel", "bias"), layer.get_weights(), strict=True))
    kernel, recurrent, bias = theirs.get_weights()
    assert {name: array.shape for name, array in mine.items()} == {
        "kernel": kernel.shape,
        "recurrent_kernel": recurrent.shape,
        "bias": bias.shape,
    }
    np.testing.assert_array_equal(mine["bias"], bias)  # 1 for the forget gate, the second in both orders
    assert abs(np.abs(mine["kernel"]).max() - np.abs(kernel).max()) < 0.01
    np.testing.assert_allclose(mine["recurrent_kernel"] @ mine["recurrent_kernel"].T, np.eye(50), atol=1e-5)
    plain = RNN(cells.lstm, 50, unit_forget_bias=False)
    plain.build((None, 4, 20))
    assert not plain.get_weights()[2].any()
    independent = RNN(cells.indrnn, 200)
    independent.build((None, 4, 20))
    low, high = cells.indrnn.vector_ranges["u"]
    assert low <= independent.cell.vectors[0].numpy().min() < independent.cell.vectors[0].numpy().max() <= high
    peephole = RNN(cells.lstm_peephole, 20, seed=1)
    peephole.build((None, 4, 20))
    assert len({vector.numpy().tobytes() for vector in peephole.cell.vectors}) == 3
    given = RNN(cells.indrnn, 20, vector_initializer="ones")
    given.build((None, 4, 20))
    assert (given.cell.vectors[0].numpy() == 1).all()


def of_layer(layer):
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((T, I)), layer])
    made.compile("sgd", "mse")
    return made


def test_a_saved_model_of_a_cell_of_this_package(tmp_path):
    made = of_layer(RNN(cells.lstm_peephole, H, dropout=0.2, vector_initializer="ones", kernel_regularizer="l2"))
    made.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found, expected = (json.loads(json.dumps(each.layers[0].get_config())) for each in (loaded, made))
    assert found == expected
    assert loaded.layers[0].cell.recurrent_cell is cells.lstm_peephole
    np.testing.assert_array_equal(loaded.predict(data(), verbose=0), made.predict(data(), verbose=0))


def test_a_saved_model_of_ones_own_cell(tmp_path, monkeypatch):
    made = of_layer(RNN(gated, H, seed=1))
    made.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="cell gated is not what it was when the layer's configuration was made"):
        other = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"gated": another_gated()})
    assert other.layers[0].cell.recurrent_cell is not gated, "what the caller says comes first"
    monkeypatch.setattr(rnn_gpu.keras.any_cell, "_met", {})  # as in another process
    with pytest.raises(Exception, match=r"cell: expected a cell gated, in custom_objects=\{'gated': it\}, got 'gated:"):
        keras.saving.load_model(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"gated": gated})
    assert loaded.layers[0].cell.recurrent_cell is gated
    np.testing.assert_array_equal(loaded.predict(data(), verbose=0), made.predict(data(), verbose=0))


def test_copies_are_of_the_same_cell():
    forgetful = cell(gates="zn", states="h", forget="z")(gated.text)
    for own in (gated, another_gated(), forgetful):
        layer = RNN(own, H, seed=1)
        assert RNN.from_config(layer.get_config()).cell.recurrent_cell is own
        assert keras.models.clone_model(of_layer(layer)).layers[0].cell.recurrent_cell is own
        both = keras.layers.Bidirectional(RNN(own, H, seed=1, return_sequences=True))
        assert tensor(both(data())).shape == (B, T, 2 * H)
        assert both.backward_layer.cell.recurrent_cell is own
        assert both.backward_layer.go_backwards


def test_it_is_a_cell_among_kerass():
    stacked = keras.layers.RNN([RNNCell(cells.lstm, 3), keras.layers.GRUCell(4)])
    assert tensor(stacked(data())).shape == (B, 4)


@pytest.mark.parametrize("dtype", ["int32", "float64", "float32"])
@pytest.mark.parametrize("options", [{}, {"dtype": "float64"}, {"dtype": "mixed_bfloat16"}])
def test_cell_and_layer_of_other_types(dtype, options):
    x = (3 * data()).astype(dtype)
    precise = 1e-2 if options.get("dtype") == "mixed_bfloat16" else 1e-6
    for layer in (RNN(RNNCell(gated, H, **options)), RNN(RNNCell(gated, H), **options)):
        expected = keras.layers.RNN(layer.cell, dtype=layer.dtype_policy)(x)
        np.testing.assert_allclose(as_double(layer(x)), as_double(expected), rtol=0, atol=precise)
    theirs, mine = (package.LSTM(H, **options) for package in (keras.layers, rnn_gpu.keras))
    expected, found = theirs(x), mine(x)
    mine.set_weights(theirs.get_weights())
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(as_double(mine(x)), as_double(expected), rtol=0, atol=precise)


def as_double(found):
    return tensor(keras.ops.cast(found, "float64"))


def test_signatures_are_shown():
    class Mine(RNN):
        """A user's."""

    assert list(inspect.signature(RNN).parameters) == ["cell", "units", "options"]
    assert Mine.__doc__ == "A user's."
    assert tensor(Mine(gated, H)(data())).shape == (B, H)
    assert list(inspect.signature(RNNCell).parameters)[:3] == ["cell", "units", "unit_forget_bias"]


def test_mixed_precision():
    layer = RNN(cells.lstm, H, dtype="mixed_bfloat16")
    y = layer(data())
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights} == {"float32"}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: RNN("lstm", 3),
            ArgumentTypeError,
            "cell: expected a cell, such as rnn_gpu.cells.janet, .* got 'lstm'",
        ),
        (lambda: RNN(gated), ArgumentTypeError, "units: expected the number of units of each state, got None"),
        (lambda: RNN(gated, 3, activation="relu"), ArgumentError, "activation: expected none, as a cell has its own"),
        (
            lambda: RNN(RNNCell(gated, 3), 4),
            ArgumentError,
            "units: expected nothing where cell is an RNNCell, .* got 4",
        ),
        (
            lambda: RNN(RNNCell(gated, 3), dropout=0.1),
            ArgumentError,
            "dropout: expected nothing where cell is an RNNCell",
        ),
        (lambda: RNN(keras.layers.LSTMCell(3)), ArgumentTypeError, "cell: expected a cell, .*, or an RNNCell"),
        (lambda: RNN(gated, 3, recurrent_activation="relu"), ArgumentError, "recurrent_activation: expected none"),
        (
            lambda: RNN(cells.indrnn, 3, recurrent_dropout=0.1),
            ArgumentError,
            "recurrent_dropout: expected 0, as cell indrnn",
        ),
        (lambda: RNN(gated, "3"), ArgumentTypeError, "units: expected a whole number, got '3'"),
        (
            lambda: RNN(gated, 3, unit_forget_bias="yes"),
            ArgumentTypeError,
            "unit_forget_bias: expected a bool, got 'yes'",
        ),
        (lambda: RNN(gated, 3)(data(), [np.zeros((B, 4))]), RuntimeError, "initial_state: expected"),
        (lambda: RNNCell(gated, 0), ValueError, "units"),
        (
            lambda: RNNCell.from_config({"cell": "lstn", "units": 3}),
            ArgumentError,
            "cell: expected one of rnn, .* 'lstn'",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
