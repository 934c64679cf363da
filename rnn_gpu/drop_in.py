"""Functions with flat signatures for the three nets that everyone knows, as drop-ins for code written by hand.

Each is a few lines over `rnn_gpu.functional`, whose `forward` explains lengths, resets, reverse, backend and errors.
Shapes: x (T, B, I), y and dy (T, B, H), states (B, H), w_ih (G*H, I), w_hh (G*H, H), biases (G*H,), gates as in torch.
"""

from __future__ import annotations

from typing import NamedTuple

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.functional import Tape, run_backward, run_forward
from rnn_gpu.problem import Array, Gradients, describe, describe_gradients
from rnn_gpu.weights.core import Weights

__all__ = [
    "LSTMGradients",
    "RNNGradients",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]

_RNN = {"tanh": cells.rnn, "relu": cells.rnn_relu}
_GRU = {True: cells.gru, False: cells.gru_2014}


class RNNGradients(NamedTuple):
    """Gradients in the shapes of the arguments of rnn_forward or gru_forward; None for a bias that was None."""

    dx: Array
    dh0: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array | None
    db_hh: Array | None


class LSTMGradients(NamedTuple):
    """Gradients in the shapes of the arguments of lstm_forward; None for a bias that was None."""

    dx: Array
    dh0: Array
    dc0: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array | None
    db_hh: Array | None


def rnn_forward(
    x: Array,
    h0: Array | None,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    activation: str = "tanh",
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    backend: str | None = None,
) -> tuple[Array, Array, Tape]:
    """h_t = activation(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh), activation "tanh" or "relu". Returns (y, h_n, tape)."""
    if not isinstance(activation, str) or activation not in _RNN:
        raise ArgumentError("activation", "'tanh' or 'relu'", repr(activation))
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    y, last, tape = _forward(_RNN[activation], x, {"h0": h0}, weights, lengths, resets, reverse, backend)
    return y, last[0], tape


def rnn_backward(tape: Tape, dy: Array | None = None, dh_n: Array | None = None) -> RNNGradients:
    """Gradients of a loss whose gradients with respect to y and h_n are dy and dh_n, None for zero."""
    x, weights, (dh0,) = _backward("rnn_forward", tuple(_RNN.values()), tape, dy, {"dh_n": dh_n})
    return RNNGradients(x, dh0, weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh)


def lstm_forward(
    x: Array,
    h0: Array | None,
    c0: Array | None,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    backend: str | None = None,
) -> tuple[Array, tuple[Array, Array], Tape]:
    """The LSTM with a forget gate, gates in the order i f g o; see `cells.lstm`. Returns (y, (h_n, c_n), tape)."""
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    y, (h_n, c_n), tape = _forward(cells.lstm, x, {"h0": h0, "c0": c0}, weights, lengths, resets, reverse, backend)
    return y, (h_n, c_n), tape


def lstm_backward(
    tape: Tape, dy: Array | None = None, dh_n: Array | None = None, dc_n: Array | None = None
) -> LSTMGradients:
    """Gradients of a loss whose gradients with respect to y, h_n and c_n are dy, dh_n and dc_n, None for zero."""
    x, weights, (dh0, dc0) = _backward("lstm_forward", (cells.lstm,), tape, dy, {"dh_n": dh_n, "dc_n": dc_n})
    return LSTMGradients(x, dh0, dc0, weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh)


def gru_forward(
    x: Array,
    h0: Array | None,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    backend: str | None = None,
) -> tuple[Array, Array, Tape]:
    """The GRU, gates in the order r z n. Returns (y, h_n, tape).

    reset_after: True for n = tanh(W_n x + b + r * (U_n h + b')), as torch and Keras have it (`cells.gru`); False for
        n = tanh(W_n x + b + U_n (r * h) + b'), as first published (`cells.gru_2014`).
    """
    if not isinstance(reset_after, bool):
        raise ArgumentTypeError("reset_after", "a bool", type(reset_after).__name__)
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    y, last, tape = _forward(_GRU[reset_after], x, {"h0": h0}, weights, lengths, resets, reverse, backend)
    return y, last[0], tape


def gru_backward(tape: Tape, dy: Array | None = None, dh_n: Array | None = None) -> RNNGradients:
    """Gradients of a loss whose gradients with respect to y and h_n are dy and dh_n, None for zero."""
    x, weights, (dh0,) = _backward("gru_forward", tuple(_GRU.values()), tape, dy, {"dh_n": dh_n})
    return RNNGradients(x, dh0, weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh)


def _forward(
    cell: Cell,
    x: Array,
    initial: dict[str, Array | None],
    weights: Weights,
    lengths: Array | None,
    resets: Array | None,
    reverse: bool,
    backend: str | None,
) -> tuple[Array, tuple[Array, ...], Tape]:
    problem, inputs = describe(
        cell,
        x,
        weights,
        initial=tuple(initial.values()),
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        state_names=tuple(initial),
    )
    return run_forward(problem, inputs, backend)


def _backward(
    forward_name: str, expected: tuple[Cell, ...], tape: Tape, dy: Array | None, dlast: dict[str, Array | None]
) -> Gradients:
    if not isinstance(tape, Tape) or tape.problem.cell not in expected:
        got = f"one of cell {tape.problem.cell.name}" if isinstance(tape, Tape) else type(tape).__name__
        raise ArgumentTypeError("tape", f"that of {forward_name}", got)
    return run_backward(tape, *describe_gradients(tape.problem, dy, tuple(dlast.values()), state_names=tuple(dlast)))
