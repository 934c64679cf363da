"""Four cells by hand from their papers, a number at a time: nothing here is shared with the package."""

from __future__ import annotations

from math import exp, tanh

import numpy as np

from support.calls import Call

__all__ = ["STEPS", "run"]


def sigmoid(a: float) -> float:
    return 1 / (1 + exp(-a))


def _rnn(k, Wx, U, b_hh, states):
    """Elman (1990)."""
    (h,) = states
    return (tanh(Wx("h", k) + _dot(U("h", k), h) + b_hh("h", k)),)


def _lstm(k, Wx, U, b_hh, states):
    """Gers, Schmidhuber & Cummins (2000), equations 1 to 6."""
    h, c = states
    i, f, g, o = (Wx(gate, k) + _dot(U(gate, k), h) + b_hh(gate, k) for gate in "ifgo")
    new_c = sigmoid(f) * c[k] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(new_c), new_c


def _gru(k, Wx, U, b_hh, states):
    """Chung et al. (2014), with the reset after the product."""
    (h,) = states
    r, z = (sigmoid(Wx(gate, k) + _dot(U(gate, k), h) + b_hh(gate, k)) for gate in "rz")
    n = tanh(Wx("n", k) + r * (_dot(U("n", k), h) + b_hh("n", k)))
    return ((1 - z) * n + z * h[k],)


def _gru_2014(k, Wx, U, b_hh, states):
    """Cho et al. (2014), equations 5 to 8: the reset of every unit goes into each unit's product."""
    (h,) = states
    r = [sigmoid(Wx("r", j) + _dot(U("r", j), h) + b_hh("r", j)) for j in range(len(h))]
    z = sigmoid(Wx("z", k) + _dot(U("z", k), h) + b_hh("z", k))
    n = tanh(Wx("n", k) + _dot(U("n", k), [r[j] * h[j] for j in range(len(h))]) + b_hh("n", k))
    return ((1 - z) * n + z * h[k],)


STEPS = {"rnn": ("h", _rnn), "lstm": ("ifgo", _lstm), "gru": ("rzn", _gru), "gru_2014": ("rzn", _gru_2014)}
"""By cell, the order of its gates' blocks, and one unit's new states."""


def _dot(a, b) -> float:
    total = 0.0
    for p, q in zip(a, b, strict=True):
        total += p * q
    return total


def run(call: Call) -> dict[str, np.ndarray]:
    """y and the last states, a row, a step and a unit at a time."""
    gates, step = STEPS[call.cell.name]
    T, B, _ = call.x.shape
    H = call.weights.w_hh.shape[1]
    x, w = call.x, call.weights
    w_ih, w_hh, b_ih, b_hh = (None if a is None else a.tolist() for a in (w.w_ih, w.w_hh, w.b_ih, w.b_hh))
    y = np.zeros((T, B, H))
    last = [np.zeros((B, H)) for _ in call.cell.states]
    for row in range(B):
        states = [[0.0] * H for _ in last] if call.initial is None else [s[row].tolist() for s in call.initial]
        length = T if call.lengths is None else int(call.lengths[row])
        for t in reversed(range(length)) if call.reverse else range(length):
            if call.resets is not None and call.resets[t, row]:
                states = [[0.0] * H for _ in states]
            x_t = x[t, row].tolist()

            def place(gate, k):
                return gates.index(gate) * H + k

            def Wx(gate, k, x_t=x_t):
                row_k = place(gate, k)
                product = x_t[row_k] if w_ih is None else _dot(w_ih[row_k], x_t)
                return product + (0.0 if b_ih is None else b_ih[row_k])

            def U(gate, k):
                return w_hh[place(gate, k)]

            def bias(gate, k):
                return 0.0 if b_hh is None else b_hh[place(gate, k)]

            new = [step(k, Wx, U, bias, states) for k in range(H)]
            states = [list(values) for values in zip(*new, strict=True)]
            y[t, row] = states[0]
        for array, state in zip(last, states, strict=True):
            array[row] = state
    return {"y": y, **{f"last_{name}": array for name, array in zip(call.cell.states, last, strict=True)}}
