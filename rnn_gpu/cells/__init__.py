"""The cells that come with the package, each one short file: equations, gate order, source. `ALL` has them by name."""

from __future__ import annotations

from rnn_gpu.cells.gru import gru
from rnn_gpu.cells.gru_2014 import gru_2014
from rnn_gpu.cells.indrnn import indrnn
from rnn_gpu.cells.janet import janet
from rnn_gpu.cells.ligru import ligru
from rnn_gpu.cells.lstm import lstm
from rnn_gpu.cells.lstm_1997 import lstm_1997
from rnn_gpu.cells.lstm_cifg import lstm_cifg
from rnn_gpu.cells.lstm_peephole import lstm_peephole
from rnn_gpu.cells.mgu import mgu
from rnn_gpu.cells.rnn import rnn
from rnn_gpu.cells.rnn_relu import rnn_relu
from rnn_gpu.cells.rnn_sigmoid import rnn_sigmoid
from rnn_gpu.compiler.cell import Cell

__all__ = [
    "ALL",
    "gru",
    "gru_2014",
    "indrnn",
    "janet",
    "ligru",
    "lstm",
    "lstm_1997",
    "lstm_cifg",
    "lstm_peephole",
    "mgu",
    "rnn",
    "rnn_relu",
    "rnn_sigmoid",
]

ALL: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        rnn,
        rnn_relu,
        rnn_sigmoid,
        lstm,
        lstm_1997,
        lstm_peephole,
        lstm_cifg,
        gru,
        gru_2014,
        mgu,
        indrnn,
        ligru,
        janet,
    )
}
