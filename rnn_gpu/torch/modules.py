"""The modules RNN, LSTM and GRU, with torch.nn's constructors."""

from __future__ import annotations

from typing import Any

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError
from rnn_gpu.torch.recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent):
    """torch.nn.RNN: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu. Or any cell. See `Recurrent`.

    RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0,
    bidirectional=False, device=None, dtype=None, *, cell=None, recompute=False, backend=None)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        cell: Cell | None = None,
        recompute: bool = False,
        backend: str | None = None,
    ) -> None:
        known = {"tanh": ("RNN_TANH", cells.rnn), "relu": ("RNN_RELU", cells.rnn_relu)}
        if nonlinearity not in known:
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        if cell is not None and nonlinearity != "tanh":
            raise ArgumentError("nonlinearity", "none where a cell is given, which has its own", repr(nonlinearity))
        mode, own = known[nonlinearity]
        super().__init__(
            mode, own, cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype, recompute=recompute, backend=backend,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(Recurrent):
    """torch.nn.LSTM, gates i f g o, states h and c. Or any cell of several states. See `Recurrent`.

    proj_size runs on states of hidden_size numbers, padded with zeros: it computes what torch's does, without being as
    much faster as the projection is smaller.
    """

    _two_states = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        cell: Cell | None = None,
        recompute: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__(
            "LSTM", cells.lstm, cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device=device, dtype=dtype, recompute=recompute, backend=backend,
        )  # fmt: skip


class GRU(Recurrent):
    """torch.nn.GRU, gates r z n; reset_after=False is the GRU first published (`cells.gru_2014`). See `Recurrent`."""

    _one_state = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
        cell: Cell | None = None,
        recompute: bool = False,
        backend: str | None = None,
    ) -> None:
        if cell is not None and not reset_after:
            raise ArgumentError("reset_after", "none where a cell is given", repr(reset_after))
        own = cells.gru if reset_after else cells.gru_2014
        super().__init__(
            "GRU", own, cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype, recompute=recompute, backend=backend,
        )  # fmt: skip
        self.reset_after = reset_after
