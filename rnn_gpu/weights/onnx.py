"""Weights from and to the tensors of ONNX' RNN, LSTM and GRU nodes. The onnx package itself is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError
from rnn_gpu.weights.core import Weights
from rnn_gpu.weights.layout import Orders, gate_order, read, read_weights, reorder

__all__ = ["OnnxWeights", "from_onnx", "to_onnx"]

ORDERS: Orders = {
    cells.rnn: ("h",),
    cells.rnn_relu: ("h",),
    cells.rnn_sigmoid: ("h",),
    cells.lstm: ("i", "o", "f", "g"),
    cells.lstm_peephole: ("i", "o", "f", "g"),
    cells.gru: ("z", "r", "n"),
    cells.gru_2014: ("z", "r", "n"),
}
"""The blocks of W, R and B. https://onnx.ai/onnx/operators/"""

PEEPHOLES: Orders = {cells.lstm_peephole: ("p_i", "p_o", "p_f")}
"""The blocks of P."""


class OnnxWeights(NamedTuple):
    """An ONNX node's inputs of the same names, D directions: W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H), P (D, 3*H)."""

    W: NDArray[Any]
    R: NDArray[Any]
    B: NDArray[Any] | None
    P: NDArray[Any] | None


def from_onnx(cell: Cell, W: Any, R: Any, B: Any = None, P: Any = None, *, direction: int = 0) -> Weights:
    """Return the Weights, as NumPy arrays of their own, of one direction of an ONNX node.

    cell: rnn, rnn_relu, rnn_sigmoid (RNN with that activation), lstm (LSTM without P), lstm_peephole (LSTM with P),
        gru (GRU with linear_before_reset=1) or gru_2014 (GRU with linear_before_reset=0).
    W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) or None, P (D, 3*H) or None, which means zero peepholes.
    direction: the position in the leading axis D; a bidirectional node has 0 forward and 1 backward.

    Raises ArgumentError for a cell that ONNX does not have, a wrong shape, a direction out of range, or P for a cell
    without peepholes; ArgumentTypeError for what is no array of floats.
    """
    order = gate_order(cell, ORDERS, "ONNX")
    sizes = {"G": len(order)}
    r = read("R", R, "D G*H H", sizes)
    w = read("W", W, "D G*H I", sizes)
    if direction not in range(sizes["D"]):
        raise ArgumentError("direction", f"0 <= direction < D = {sizes['D']}", repr(direction))
    w_ih, w_hh = (reorder(matrix[direction], order, cell.gates) for matrix in (w, r))
    b_ih = b_hh = None
    if B is not None:
        halves = np.split(read("B", B, "D 2*G*H", sizes)[direction], 2)
        b_ih, b_hh = (reorder(half, order, cell.gates) for half in halves)
    names = PEEPHOLES.get(cell, ())
    if not names and P is not None:
        raise ArgumentError("P", f"None for {cell.name}, as only lstm_peephole has peepholes", "an array")
    if names and P is None:
        P = np.zeros((sizes["D"], len(names) * sizes["H"]), r.dtype)
    vectors = {}
    if names:
        p = read("P", P, f"D {len(names)}*H", sizes)[direction]
        vectors = {name: reorder(p, names, [name]) for name in cell.vectors}
    return Weights(w_ih, w_hh, b_ih, b_hh, vectors)


def to_onnx(cell: Cell, *weights: Weights) -> OnnxWeights:
    """Return an ONNX node's W, R, B and P, NumPy arrays of their own.

    weights: one a direction, so that D is their number: one, or forward and backward for a bidirectional node.
        B is None if none has a bias, P if the cell has no peepholes.

    The node's attributes are the caller's: hidden_size, direction; linear_before_reset=1 for gru and 0 for gru_2014;
    activations ["Relu"] for rnn_relu and ["Sigmoid"] for rnn_sigmoid.

    Raises ArgumentError for a cell that ONNX does not have, a wrong shape, or directions of different shapes;
    ArgumentTypeError for a missing matrix.
    """
    order = gate_order(cell, ORDERS, "ONNX")
    if len(weights) not in (1, 2):
        raise ArgumentError("weights", "one Weights, or two for a bidirectional node", f"{len(weights)}")
    nodes = [_one_direction(cell, order, each) for each in weights]
    shapes = [(node.W.shape, node.R.shape) for node in nodes]
    if shapes[0] != shapes[-1]:
        raise ArgumentError("weights", "directions of the same sizes", f"W and R of shapes {shapes}")
    W, R, B, P = zip(*nodes, strict=True)
    return OnnxWeights(np.stack(W), np.stack(R), _stack(B), _stack(P))


def _one_direction(cell: Cell, order: Sequence[str], weights: Weights) -> OnnxWeights:
    """Return what stands in one position of the leading axis D."""
    ours = read_weights(cell, weights)
    names = PEEPHOLES.get(cell, ())
    return OnnxWeights(
        reorder(ours.w_ih, cell.gates, order),
        reorder(ours.w_hh, cell.gates, order),
        None if ours.biases is None else np.concatenate([reorder(b, cell.gates, order) for b in ours.biases]),
        np.concatenate([ours.vectors[name] for name in names]) if names else None,
    )


def _stack(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Return the directions' arrays stacked, zeros for one that is missing beside another; None if all are."""
    like = next((part for part in parts if part is not None), None)
    if like is None:
        return None
    return np.stack([np.zeros_like(like) if part is None else part for part in parts])
