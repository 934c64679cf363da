"""Whole sequences: the forward pass alone, and a training step's forward and backward pass."""

from rnn_gpu import cells
from rnn_gpu.arrays import DTYPES
from rnn_gpu.bench.shapes import Mode, Shape

from .common import BACKENDS, CELLS, GATED, MODES, ONE, SEQUENCES, Timed


class Forward(Timed):
    params = (CELLS, BACKENDS, SEQUENCES)
    param_names = ("cell", "backend", "shape")

    def setup(self, cell: str, backend: str, shape: Shape) -> None:
        self.prepare(cell, backend, shape, "forward")

    def time_forward(self, cell: str, backend: str, shape: Shape) -> None:
        self.run()


class Train(Timed):
    params = (CELLS, BACKENDS, SEQUENCES)
    param_names = ("cell", "backend", "shape")

    def setup(self, cell: str, backend: str, shape: Shape) -> None:
        self.prepare(cell, backend, shape, "train")

    def time_train(self, cell: str, backend: str, shape: Shape) -> None:
        self.run()


class EveryCell(Timed):
    """A training step of each cell there is."""

    params = (tuple(cells.ALL), BACKENDS)
    param_names = ("cell", "backend")

    def setup(self, cell: str, backend: str) -> None:
        self.prepare(cell, backend, ONE, "train")

    def time_train(self, cell: str, backend: str) -> None:
        self.run()


class EveryType(Timed):
    params = (DTYPES, BACKENDS, MODES)
    param_names = ("dtype", "backend", "mode")

    def setup(self, dtype: str, backend: str, mode: Mode) -> None:
        self.prepare("lstm", backend, ONE, mode, dtype=dtype)

    def time_lstm(self, dtype: str, backend: str, mode: Mode) -> None:
        self.run()


class Ragged(Timed):
    """Rows of different lengths."""

    params = (GATED, BACKENDS, MODES)
    param_names = ("cell", "backend", "mode")

    def setup(self, cell: str, backend: str, mode: Mode) -> None:
        self.prepare(cell, backend, ONE, mode, ragged=True)

    def time_ragged(self, cell: str, backend: str, mode: Mode) -> None:
        self.run()


class Resets(Timed):
    """Resets before one step in a hundred."""

    params = (GATED, BACKENDS, MODES)
    param_names = ("cell", "backend", "mode")

    def setup(self, cell: str, backend: str, mode: Mode) -> None:
        self.prepare(cell, backend, ONE, mode, resets=0.01)

    def time_resets(self, cell: str, backend: str, mode: Mode) -> None:
        self.run()
