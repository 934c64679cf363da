"""The cells under test: those of the package, and two that a user might write. No other file knows of the latter."""

from __future__ import annotations

from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, clip, exp, sigmoid, softplus, tanh, where

__all__ = ["CELLS", "USERS"]


@cell(gates="zrn", states="h")
def mut1(Wx, U, h):
    """Jozefowicz, Zaremba & Sutskever (2015), section 3.2, MUT1. The x_t inside the paper's tanh(x_t) is Wx.n here."""
    z = sigmoid(Wx.z)
    r = sigmoid(Wx.r + U.r(h))
    n = tanh(U.n(r * h) + tanh(Wx.n))
    return n * z + h * (1 - z)


@cell(gates="an", states="hm", vectors=("decay", "gain"))
def leaky(Wx, U, h, m, v):
    """No paper's: two stages, two states, vectors, and operations that no cell of the package uses."""
    a = sigmoid(Wx.a + U.a(h))
    m = clip(exp(-softplus(v.decay)) * m + a - 0.5, -0.25, 0.25)
    n = tanh(Wx.n + U.n(m * h))
    return where(a > 0.5, n, v.gain * h + m / (2 + abs(n))), m


USERS = {"mut1": mut1, "leaky": leaky}

CELLS = {**cells.ALL, **USERS}
