"""The LSTM with a recurrent projection, torch's proj_size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rnn_gpu.compiler.language import cell, sigmoid, tanh

__all__ = ["lstm_projection", "padded", "padding_of"]


@cell(gates="ifgop", states="hc", forget="f")
def lstm_projection(Wx: Any, U: Any, h: Any, c: Any) -> Any:
    """Long short-term memory whose output is projected. Sak, Senior & Beaufays (2014), arXiv 1402.1128, eqs 1-6.

    The projection is a recurrent product of its own, with the operand o * tanh(c). A state of P < H numbers is held as
    one of H, the rest zeros.
    """
    i = sigmoid(Wx.i + U.i(h))
    f = sigmoid(Wx.f + U.f(h))
    g = tanh(Wx.g + U.g(h))
    o = sigmoid(Wx.o + U.o(h))
    c = f * c + i * g
    return U.p(o * tanh(c)), c


def padding_of(state: Tensor, hidden: int) -> Tensor:
    """A state (..., P) as (..., H), with zeros behind."""
    return torch.nn.functional.pad(state, (0, hidden - state.shape[-1]))


def padded(layer: list[Tensor], hidden: int, inputs: int, n_below: int) -> list[Tensor]:
    """torch's parameters of a layer and direction as the cell has them: w_ih, w_hh and, if there are, b_ih, b_hh.

    layer: weight_ih (4*H, inputs), weight_hh (4*H, P), the biases (4*H,) if there are, weight_hr (P, H).
    n_below: how many outputs of P numbers, held in H each, the layer reads; 0 for the first, which reads x itself.
    """
    w_ih, w_hh, *biases, w_hr = layer
    if n_below:
        parts = torch.split(w_ih, inputs // n_below, dim=1)
        w_ih = torch.cat([padding_of(part, hidden) for part in parts], dim=1)
    projection = torch.nn.functional.pad(w_hr, (0, 0, 0, hidden - w_hr.shape[0]))
    b_hh = [torch.cat([biases[1], biases[1].new_zeros(hidden)])] if biases else []
    return [w_ih, torch.cat([padding_of(w_hh, hidden), projection]), *biases[:1], *b_hh]
