"""Weights from and to the `get_weights()` lists of keras.layers.SimpleRNN, LSTM and GRU. Keras itself is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.weights.core import Weights
from rnn_gpu.weights.layout import Orders, gate_order, read, read_weights, reorder

__all__ = ["from_keras", "to_keras"]

ORDERS: Orders = {
    cells.rnn: ("h",),
    cells.rnn_relu: ("h",),
    cells.rnn_sigmoid: ("h",),
    cells.lstm: ("i", "f", "g", "o"),
    cells.gru: ("z", "r", "n"),
    cells.gru_2014: ("z", "r", "n"),
}
"""The blocks of a SimpleRNN (activation "tanh", "relu", "sigmoid"), an LSTM, and a GRU (reset_after True, False).
https://keras.io/api/layers/recurrent_layers/"""

TWO_BIASES = frozenset({cells.gru})
"""The cells of which Keras keeps the input and the recurrent bias apart, as one array (2, G*H). Of the others it keeps
their sum (G*H,), which is all that those cells' equations see."""


def from_keras(cell: Cell, weights_list: Sequence[Any]) -> Weights:
    """Return the Weights, as NumPy arrays of their own, of a Keras layer's `get_weights()` list.

    cell: rnn, rnn_relu, rnn_sigmoid (SimpleRNN of that activation), lstm, gru (reset_after=True) or gru_2014
        (reset_after=False).
    weights_list: kernel (I, G*H), recurrent kernel (H, G*H), and, if the layer has one, the bias: (2, G*H) for gru;
        (G*H,) for the others, which becomes b_ih, b_hh being zero.

    Raises ArgumentError for a cell that Keras does not have, another number of arrays or a wrong shape;
    ArgumentTypeError for what is no sequence or no array of floats.
    """
    order = gate_order(cell, ORDERS, "Keras")
    if not isinstance(weights_list, Sequence):
        raise ArgumentTypeError("weights_list", "a list of arrays", type(weights_list).__name__)
    if len(weights_list) not in (2, 3):
        raise ArgumentError(
            "weights_list",
            "2 or 3 arrays (a Bidirectional's list is its forward layer's and then its backward layer's)",
            f"{len(weights_list)}",
        )
    sizes = {"G": len(order)}
    recurrent = read("weights_list[1]", weights_list[1], "H G*H", sizes)
    kernel = read("weights_list[0]", weights_list[0], "I G*H", sizes)
    w_ih, w_hh = (reorder(matrix.T, order, cell.gates) for matrix in (kernel, recurrent))
    if len(weights_list) == 2:
        return Weights(w_ih, w_hh)
    two = cell in TWO_BIASES
    bias = read("weights_list[2]", weights_list[2], "2 G*H" if two else "G*H", sizes)
    b_ih, b_hh = bias if two else (bias, np.zeros_like(bias))
    return Weights(w_ih, w_hh, reorder(b_ih, order, cell.gates), reorder(b_hh, order, cell.gates))


def to_keras(cell: Cell, weights: Weights) -> list[NDArray[Any]]:
    """Return `weights` as the list that the Keras layer's `set_weights()` takes, of NumPy arrays of their own.

    The list is that of `from_keras`, without a bias (a layer of use_bias=False) if `weights` has none. Where Keras
    keeps one bias it is b_ih + b_hh, so that a way there and back moves b_hh into b_ih.

    Raises ArgumentError for a cell that Keras does not have or a wrong shape, ArgumentTypeError for a missing matrix.
    """
    order = gate_order(cell, ORDERS, "Keras")
    ours = read_weights(cell, weights)
    found = [ours.w_ih.T, ours.w_hh.T]
    if ours.biases is not None:
        found.append(np.stack(ours.biases) if cell in TWO_BIASES else np.add(*ours.biases))
    return [reorder(array, cell.gates, order, axis=-1) for array in found]
