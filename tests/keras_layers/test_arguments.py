"""Every argument that Keras documents: same outputs, and same weights after three steps of training."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import torch
from support.keras_pairs import B, H, I, T, assert_same, data, model, pair

import rnn_gpu.keras
from rnn_gpu.errors import ArgumentError
from rnn_gpu.keras.activations import ACTIVATIONS

NAMES = ("SimpleRNN", "LSTM", "GRU")

SHARED = {
    "units": {},
    "activation": {"activation": "relu"},
    "use_bias": {"use_bias": False},
    "kernel_initializer": {"kernel_initializer": keras.initializers.RandomNormal(seed=2)},
    "recurrent_initializer": {"recurrent_initializer": keras.initializers.GlorotNormal(seed=2)},
    "bias_initializer": {"bias_initializer": "ones"},
    "kernel_regularizer": {"kernel_regularizer": "l2"},
    "recurrent_regularizer": {"recurrent_regularizer": "l1"},
    "bias_regularizer": {"bias_regularizer": "l2", "bias_initializer": "ones"},
    "activity_regularizer": {"activity_regularizer": "l2"},
    "kernel_constraint": {"kernel_constraint": "unit_norm"},
    "recurrent_constraint": {"recurrent_constraint": "non_neg"},
    "bias_constraint": {"bias_constraint": "non_neg"},
    "dropout": {"dropout": 0.5},
    "recurrent_dropout": {"recurrent_dropout": 0.4},
    "return_sequences": {"return_sequences": True},
    "return_state": {"return_state": True},
    "go_backwards": {"go_backwards": True, "return_sequences": True},
    "unroll": {"unroll": True, "return_sequences": True},
    "seed": {"seed": 4, "dropout": 0.3, "recurrent_dropout": 0.4, "return_sequences": True},
}
GATED = {
    "recurrent_activation": {"recurrent_activation": "hard_sigmoid"},
    "use_cudnn": {"use_cudnn": False},
}
OWN = {
    "SimpleRNN": {},
    "LSTM": {**GATED, "unit_forget_bias": {"unit_forget_bias": False}},
    "GRU": {**GATED, "reset_after": {"reset_after": False}},
}
OTHERS = {"stateful", "kwargs"}  # stateful: below
CASES = [(name, argument, options) for name in NAMES for argument, options in {**SHARED, **OWN[name]}.items()]


@pytest.mark.parametrize(
    ("name", "argument", "options"), CASES, ids=[f"{name}-{argument}" for name, argument, _ in CASES]
)
def test_argument(name, argument, options):
    assert_same(name, options)


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_among_them(name):
    arguments = set(inspect.signature(getattr(keras.layers, name)).parameters)
    assert arguments == {*SHARED, *OWN[name], *OTHERS}
    assert inspect.signature(getattr(rnn_gpu.keras, name)) == inspect.signature(getattr(keras.layers, name))


@pytest.mark.parametrize(
    "options", [{"dropout": 0.2}, {"recurrent_dropout": 0.5}, {"dropout": 0.2, "recurrent_dropout": 0.5}]
)
def test_dropout_where_the_reset_comes_before(options):
    assert_same("GRU", {"reset_after": False, **options})


@pytest.mark.parametrize("name", NAMES)
def test_dropout_of_everything(name):
    assert_same(name, {"dropout": 1.0, "recurrent_dropout": 1.0, "bias_initializer": "ones"})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    quiet = keras.initializers.RandomNormal(stddev=0.1, seed=1)
    options = {
        "activation": name,
        "return_sequences": True,
        "kernel_initializer": quiet,
        "recurrent_initializer": quiet,
    }
    assert_same("GRU", options)


def test_every_activation_is_taken_or_refused():
    known = keras.src.activations.ALL_OBJECTS_DICT
    refused = {"softmax", "log_softmax", "sparsemax", "glu", "gelu", "threshold"}
    assert {function.__name__ for function in known.values()} == {*ACTIVATIONS, *refused}
    for name in refused:
        with pytest.raises(ArgumentError, match=f"^activation: expected one of Keras' activations .* got {name}$"):
            rnn_gpu.keras.SimpleRNN(3, activation=name)
    with pytest.raises(ArgumentError, match="recurrent_activation: expected one of"):
        rnn_gpu.keras.LSTM(3, recurrent_activation="softmax")
    with pytest.raises(ArgumentError, match=r"activation: expected one of .* got <ufunc 'tanh'>$"):
        rnn_gpu.keras.GRU(3, activation=np.tanh)
    assert rnn_gpu.keras.SimpleRNN(3, activation=None).activation is keras.activations.linear


def test_cudnn_cannot_be_demanded():
    with pytest.raises(ArgumentError, match="use_cudnn: expected 'auto' or False"):
        rnn_gpu.keras.LSTM(3, use_cudnn=True)


@pytest.mark.parametrize("name", NAMES)
def test_stateful_predictions(name):
    theirs, mine = pair(name, {"stateful": True, "return_sequences": True})
    for seed in range(3):
        found, expected = (each.predict(data(seed=seed), batch_size=B, verbose=0) for each in (mine, theirs))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for each in (mine, theirs):
        each.layers[-1].reset_state()
    found, expected = (each.predict(data(), batch_size=B, verbose=0) for each in (mine, theirs))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_stateful_training(name):
    """Keras' own LSTM and GRU cannot be trained so on its torch backend: its states are handed on by hand instead."""
    mine = model(rnn_gpu.keras, name, {"stateful": True})
    theirs = model(keras.layers, name, {}).layers[-1]
    theirs.return_state = True
    variables = [variable.value for variable in theirs.trainable_variables]
    y = torch.randn(B, H, generator=torch.Generator().manual_seed(0))
    states = None
    for seed in range(3):
        x = torch.from_numpy(data(seed=seed))
        mine.train_on_batch(x.numpy(), y.numpy())
        found, *states = theirs(x, initial_state=states)
        states = [state.detach() for state in states]
        gradients = torch.autograd.grad(((found - y) ** 2).mean(), variables)
        with torch.no_grad():
            for variable, gradient in zip(variables, gradients, strict=True):
                variable -= 0.1 * gradient
    for a, b in zip(mine.layers[-1].trainable_variables, variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_initial_states(name):
    theirs, mine = (getattr(package, name)(H, return_state=True, seed=0) for package in (keras.layers, rnn_gpu.keras))
    keras.utils.set_random_seed(0)
    x = data()
    theirs(x)
    mine(x)
    mine.set_weights(theirs.get_weights())
    states = list(np.random.default_rng(1).normal(size=(len(theirs.state_size), B, H)).astype("float32"))
    for a, b in zip(mine(x, initial_state=states), theirs(x, initial_state=states), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("policy", "tolerance"), [("float64", 1e-12), ("mixed_bfloat16", 0.03), ("float16", 0.005)])
def test_dtype_policies(policy, tolerance):
    theirs, mine = pair("LSTM", {"dtype": policy, "return_sequences": True, "recurrent_initializer": "he_normal"})
    found, expected = (each(data()) for each in (mine, theirs))
    assert found[0].dtype == expected[0].dtype
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=tolerance)


def test_any_number_of_steps_and_rows():
    layer = rnn_gpu.keras.GRU(H, return_sequences=True)
    inputs = keras.Input((None, I))
    made = keras.Model(inputs, layer(inputs))
    assert made.output_shape == (None, None, H)
    for rows, steps in ((2, 3), (5, 1), (1, T)):
        assert made.predict(np.zeros((rows, steps, I), "float32"), verbose=0).shape == (rows, steps, H)
