"""Keras' activations in the language of cells, by name. https://keras.io/api/layers/activations/

Those of one number that + - * / and the language's functions express. The others are refused: softmax, log_softmax,
sparsemax and glu are functions of a whole row, gelu needs the error function, threshold has no defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from rnn_gpu.compiler.language import Symbol, clip, exp, maximum, minimum, relu, sigmoid, softplus, sqrt, tanh, where
from rnn_gpu.errors import ArgumentError

__all__ = ["ACTIVATIONS", "name_of"]

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al. (2017), section 2."""


def _elu(x: Symbol) -> Symbol:
    return where(x > 0, x, exp(minimum(x, 0.0)) - 1)  # exp of what is not taken must not overflow


def _selu(x: Symbol) -> Symbol:
    return _SELU_SCALE * where(x > 0, x, _SELU_ALPHA * (exp(minimum(x, 0.0)) - 1))


def _hard_sigmoid(x: Symbol) -> Symbol:
    return clip(x / 6 + 0.5, 0.0, 1.0)


def _shrunk(x: Symbol) -> Symbol:
    return where(x > 0.5, x - 0.5, where(x < -0.5, x + 0.5, 0.0 * x))


ACTIVATIONS: dict[str, Callable[[Symbol], Symbol]] = {
    "linear": lambda x: x,
    "relu": relu,
    "relu6": lambda x: minimum(relu(x), 6.0),
    "leaky_relu": lambda x: where(x > 0, x, 0.2 * x),
    "elu": _elu,
    "celu": _elu,  # with Keras' alpha of 1
    "selu": _selu,
    "exponential": exp,
    "sigmoid": sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "sparse_sigmoid": lambda x: clip(0.5 * (x + 1), 0.0, 1.0),
    "log_sigmoid": lambda x: -softplus(-x),
    "tanh": tanh,
    "hard_tanh": lambda x: clip(x, -1.0, 1.0),
    "tanh_shrink": lambda x: x - tanh(x),
    "softplus": softplus,
    "sparse_plus": lambda x: where(x > 1, x, 0.25 * maximum(x + 1, 0.0) ** 2),
    "squareplus": lambda x: (x + sqrt(x * x + 4)) / 2,
    "softsign": lambda x: x / (1 + abs(x)),
    "soft_shrink": _shrunk,
    "hard_shrink": lambda x: where(abs(x) > 0.5, x, 0.0 * x),
    "silu": lambda x: x * sigmoid(x),
    "hard_silu": lambda x: x * _hard_sigmoid(x),
    "mish": lambda x: x * tanh(softplus(x)),
}


def name_of(argument: str, activation: Any) -> str:
    """The name of a layer's activation, as ACTIVATIONS has it. Raises ArgumentError for one that it has not."""
    name = getattr(activation, "__name__", "")
    is_of_keras = getattr(keras.activations, name, None) is activation
    if name not in ACTIVATIONS or not is_of_keras:
        expected = f"one of Keras' activations that a kernel can hold ({', '.join(ACTIVATIONS)}), by name or as itself"
        raise ArgumentError(argument, expected, name if is_of_keras else repr(activation))
    return name
