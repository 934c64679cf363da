"""The cells RNNCell, LSTMCell and GRUCell: one step of one layer, with torch.nn's names, parameters and results."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.torch.execution import Call, Given, key_of
from rnn_gpu.torch.naming import renamed, states_of
from rnn_gpu.torch.operators import run
from rnn_gpu.torch.parameters import autocast

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


def _step(module: Any, cell: Cell, input: Tensor, hx: Any) -> tuple[Tensor, ...]:
    """The new states (B, H), or (H,) for an input (I,), of a torch cell's parameters."""
    states = () if hx is None else states_of(hx, cell.states)
    name = type(module).__name__
    if input.dim() not in (1, 2):
        raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
    if input.shape[-1] != module.input_size:
        raise RuntimeError(f"{name}: expected input of size {module.input_size}, got {input.shape[-1]}")
    shape = (*input.shape[:-1], module.hidden_size)
    for state in states:
        if state.shape != shape:
            raise RuntimeError(f"{name}: expected a state of shape {shape}, got {tuple(state.shape)}")
    x = input.unsqueeze(0) if input.dim() == 2 else input[None, None]
    weights = [module.weight_ih, module.weight_hh]
    weights += [module.bias_ih, module.bias_hh] if module.bias else []
    x, weights, initial = autocast(x, weights, [state.reshape(1, *x.shape[1:2], -1) for state in states])
    names = "w_ih w_hh b_ih b_hh" if module.bias else "w_ih w_hh"
    call = Call(key_of(cell), names, module.hidden_size, backend=module.backend or "")
    try:
        _, last, _ = run(Given(x, weights, initial, None, None, None, call))
    except (ArgumentError, ArgumentTypeError) as error:
        raise renamed(error, [""]) from error
    return tuple(state.reshape(shape) for state in last)


class RNNCell(nn.RNNCell):
    """torch.nn.RNNCell: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. x (B, I) or (I,), h (B, H) or (H,)."""

    backend: str | None = None
    """The backend's name; else RNN_GPU_BACKEND, else the first that can run the call."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the new state. None stands for zeros."""
        cell = {"tanh": cells.rnn, "relu": cells.rnn_relu}.get(self.nonlinearity)
        if cell is None:
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return _step(self, cell, input, hx)[0]


class LSTMCell(nn.LSTMCell):
    """torch.nn.LSTMCell: x (B, I) or (I,) and the states (h, c), (B, H) or (H,) each, to the new (h, c)."""

    backend: str | None = None
    """The backend's name; else RNN_GPU_BACKEND, else the first that can run the call."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the new states. None stands for zeros."""
        h, c = _step(self, cells.lstm, input, hx)
        return h, c


class GRUCell(nn.GRUCell):
    """torch.nn.GRUCell: x (B, I) or (I,) and the state h, (B, H) or (H,), to the new h."""

    backend: str | None = None
    """The backend's name; else RNN_GPU_BACKEND, else the first that can run the call."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the new state. None stands for zeros."""
        return _step(self, cells.gru, input, hx)[0]
